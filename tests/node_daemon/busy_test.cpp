#include <httplib.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "models/runtime/runtime.h"
#include "node/daemon/api.h"
#include "node/daemon/torch_engine.h"
#include "node/daemon/worker.h"
#include "storage/memory_disk.h"
#include "tests/catch.h"
#include "tests/node_daemon/models.h"

namespace rivulet::node {
namespace {

/// A release of a small convolutional network on 12 x 12 pixels.
Release cnn_release() {
  Release release = softmax_release(144, 4);
  release.architecture = default_architecture("cnn");
  release.architecture.input_shape = {1, 12, 12};
  release.architecture.outputs = 4;
  release.layout = layout_of(release.architecture).value();
  return release;
}

std::vector<NewSample> images(std::size_t count) {
  Rng rng(7);
  std::vector<NewSample> samples(count);
  for (std::size_t i = 0; i < count; ++i) {
    samples[i].label = std::to_string(i % 4);
    for (int pixel = 0; pixel < 144; ++pixel) {
      const bool bright = static_cast<std::size_t>(pixel / 36) == i % 4;
      samples[i].inputs.push_back(static_cast<float>(uniform_unit(rng)) + (bright ? 1.0F : 0.0F));
    }
  }
  return samples;
}

std::vector<float> small_weights(const Release& release) {
  Rng rng(9);
  std::vector<float> weights(release.layout.size());
  for (float& weight : weights) weight = static_cast<float>(0.1 * uniform_unit(rng) - 0.05);
  return weights;
}

TEST_CASE("a node that trains a convolutional network answers all the while, and by the same model",
          "[node][engine][api]") {
  use_one_thread();
  MemoryDisk disk;
  const auto store = make_memory_store(disk, {sample_families.begin(), sample_families.end()});
  const auto samples = SampleStore::open(*store, {.holdout_fraction = 0.0}).value();
  REQUIRE(samples->add(images(256), UtcTime(std::chrono::milliseconds(1'700'000'000'000))));
  const Release release = cnn_release();
  const std::vector<float> weights = small_weights(release);
  Metrics metrics;
  Inference inference(metrics);
  VersionManifest manifest;
  manifest.version = manifest.manifest_version = 3;
  inference.swap(load_served_model(release, weights, manifest, "fp32").value());
  const auto api = Api::start({.inference = inference,
                               .samples = *samples,
                               .metrics = metrics,
                               .token = std::string(32, 'a'),
                               .status = [] { return Result<std::string>("{}"); },
                               .on_storage = [](const Error&) {},
                               .utc = [] { return UtcTime(); }},
                              {})
                       .value();
  httplib::Client client("http://" + api->address());
  client.set_keep_alive(true);
  const std::string request = nlohmann::json{{"inputs", {images(1)[0].inputs}}}.dump();
  const auto ask = [&] {
    const auto result = client.Post("/v1/infer", request, "application/json");
    REQUIRE(result);
    REQUIRE(result->status == 200);
    return nlohmann::json::parse(result->body)["results"][0]["probabilities"];
  };
  const auto before = ask();

  // It trains for as long as it takes to be asked a hundred times, and then is told to stop.
  std::atomic<bool> stop = false, began = false, ended = false;
  std::optional<Result<TrainingResult>> outcome;
  std::uint64_t while_training = 0;
  {
    TorchEngine engine(*samples, metrics);
    Worker trainer(Worker::AtEnd::finish, 10);
    trainer.post([&] {
      message::TrainingPlan plan;
      plan.epochs = 10'000;
      plan.batch_size = 16;
      plan.learning_rate = 0.01;
      began = true;
      outcome = engine.train(release, weights, plan, stop);
      ended = true;
    });
    while (!began) std::this_thread::yield();
    for (int i = 0; i < 100 && !ended; ++i) {
      CHECK(ask() == before);
      if (!ended) ++while_training;
    }
    stop = true;
  }
  CHECK(while_training == 100);
  REQUIRE(outcome.has_value());
  REQUIRE_FALSE(outcome->has_value());
  CHECK(outcome->error().code == Errc::cancelled);  // It was at work until then.
}

}  // namespace
}  // namespace rivulet::node
