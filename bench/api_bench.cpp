// What the node's local API adds to a forward pass: the McMahan CNN at batch 1, on one kept-alive connection,
// with raw float32 and with JSON. Medians of requests in turns; the added time is what the bar of 100 us is
// about. Then what a loaded model takes of resident memory beyond LibTorch's own floor.
#include <httplib.h>
#include <malloc.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <vector>

#include "models/runtime/calibration.h"
#include "models/runtime/engine_choice.h"
#include "models/runtime/model.h"
#include "models/runtime/release_model.h"
#include "models/runtime/runtime.h"
#include "node/daemon/api.h"
#include "protocol/rng.h"
#include "storage/memory_disk.h"

using namespace rivulet;

namespace {

constexpr int rounds = 40;
constexpr int burst = 25;

struct Contender {
  std::string name;
  std::function<bool()> run;
  std::vector<double> times = {};
};

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

std::uint64_t resident_bytes() {
  ::malloc_trim(0);
  std::ifstream file("/proc/self/statm");
  std::uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

Release mcmahan_release() {
  Release release;
  release.name = "bench";
  release.architecture = {.kind = "mcmahan_cnn", .input_shape = {1, 28, 28}, .outputs = 10};
  release.layout = Model::build(release.architecture).value().layout();
  for (int i = 0; i < 10; ++i) release.classes.push_back(std::to_string(i));
  Rng rng(1);
  for (std::size_t i = 0; i < 100 * release.architecture.input_size(); ++i) {
    release.known_inputs.push_back(static_cast<float>(uniform_unit(rng)));
  }
  return release;
}

int measure(std::vector<Contender> contenders) {
  for (int round = 0; round < rounds; ++round) {
    for (Contender& contender : contenders) {
      if (!contender.run()) {
        fmt::print(stderr, "{}: no answer\n", contender.name);
        return 1;
      }
      for (int call = 0; call < burst; ++call) {
        const auto begin = std::chrono::steady_clock::now();
        contender.run();
        contender.times.push_back(
            std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
      }
    }
  }
  const double bare = median(contenders[0].times);
  for (const Contender& contender : contenders) {
    const double time = median(contender.times);
    fmt::print("  {:<30} {:8.1f} us   adds {:6.1f} us, {:.2f} of the 100 allowed\n", contender.name, time,
               time - bare, (time - bare) / 100);
  }
  return median(contenders[1].times) - bare <= 100 ? 0 : 1;  // JSON is for comparison.
}

int compare(const Release& release, const std::vector<float>& weights, const EngineSetup& setup) {
  node::Metrics metrics;
  node::Inference inference(metrics);
  VersionManifest manifest;
  manifest.version = manifest.manifest_version = 1;
  auto served = node::load_served_model(release, weights, manifest, "int8", setup);
  if (!served) {
    fmt::print(stderr, "{}\n", served.error().detail);
    return 1;
  }
  inference.swap(*served);
  MemoryDisk disk;
  const auto store = make_memory_store(disk, {node::sample_families.begin(), node::sample_families.end()});
  const auto samples = node::SampleStore::open(*store, {}).value();
  const auto api = node::Api::start({.inference = inference,
                                     .samples = *samples,
                                     .metrics = metrics,
                                     .token = "none",
                                     .status = [] { return Result<std::string>("{}"); },
                                     .on_storage = [](const Error&) {},
                                     .utc = [] { return UtcTime{}; }},
                                    {})
                       .value();
  httplib::Client client("http://" + api->address());
  client.set_keep_alive(true);
  client.set_tcp_nodelay(true);

  const std::vector<float> sample(
      release.known_inputs.begin(),
      release.known_inputs.begin() + static_cast<std::ptrdiff_t>(release.architecture.input_size()));
  const std::string raw(reinterpret_cast<const char*>(sample.data()), sample.size() * sizeof(float));
  std::string json = R"({"inputs":[[)";
  for (const float value : sample) json += fmt::format("{},", value);
  json.back() = ']';
  json += "]}";
  const auto post = [&](const std::string& body, const char* type, const char* accept) {
    const auto result = client.Post("/v1/infer", {{"Accept", accept}}, body, type);
    return result && result->status == 200;
  };
  fmt::print("{}:\n", name(setup.engine));
  return measure(
      {{"bare forward pass", [&] { return (*served)->model.infer(sample).has_value(); }},
       {"raw float32 both ways",
        [&] { return post(raw, "application/octet-stream", "application/octet-stream"); }},
       {"raw float32, JSON back", [&] { return post(raw, "application/octet-stream", "application/json"); }},
       {"JSON both ways", [&] { return post(json, "application/json", "application/json"); }}});
}

void weigh(const Release& release, const std::vector<float>& weights, const EngineSetup& setup,
           std::uint64_t floor) {
  constexpr std::uint64_t models = 4;
  std::vector<InferenceModel> held;
  const std::uint64_t before = resident_bytes();
  for (std::uint64_t i = 0; i < models; ++i) {
    held.push_back(InferenceModel::load(inference_spec(release), weights, setup).value());
    held.back().infer(std::span(release.known_inputs).first(release.architecture.input_size())).value();
  }
  const auto each = static_cast<double>(resident_bytes() - before) / models / 1e6;
  const double size = static_cast<double>(weights.size()) * (is_int8(setup.engine.kind) ? 1 : 4) / 1e6;
  fmt::print("{:<24} {:6.1f} MB a model, its weights {:.1f} MB: {:.2f} of weights + 10 MB; floor {:.0f} MB\n",
             name(setup.engine), each, size, each / (size + 10), static_cast<double>(floor) / 1e6);
}

}  // namespace

int main() {
  use_one_thread();
  const Release release = mcmahan_release();
  const std::vector<float> weights = Model::build(release.architecture).value().initial_weights(1);
  const EngineSetup fp32;
  EngineSetup int8{{EngineKind::int8_static, int8_backends().at(0), activation_bits_of_cpu()}, {}};
  int8.ranges = calibrate(inference_spec(release), weights, release.known_inputs).value();
  // Whatever is loaded once, whichever the model.
  for (const EngineSetup& setup : {fp32, int8}) {
    InferenceModel::load(inference_spec(release), weights, setup)
        .value()
        .infer(std::span(release.known_inputs).first(release.architecture.input_size()))
        .value();
  }
  const std::uint64_t floor = resident_bytes();
  for (const EngineSetup& setup : {fp32, int8}) weigh(release, weights, setup, floor);
  return compare(release, weights, fp32) + compare(release, weights, int8);
}
