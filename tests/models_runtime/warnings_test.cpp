// A user's network may warn, in whatever words it likes. Daemons have their log on standard error.
#include <fcntl.h>
#include <torch/script.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "models/runtime/calibration.h"
#include "models/runtime/engine_choice.h"
#include "models/runtime/model.h"
#include "models/runtime/runtime.h"
#include "models/runtime/torchscript/trial.h"
#include "models/runtime/training.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

namespace {

constexpr const char* forged = "level=info event=version_published";

/// A dense layer from 4 numbers to 2 that warns, with a line of its own making.
Bytes warning_network() {
  torch::jit::Module network("Network");
  const std::vector<float> weights = reference::uniform(8, -1, 1, 1);
  at::Tensor weight = at::empty({2, 4}, at::kFloat);
  std::ranges::copy(weights, weight.data_ptr<float>());
  network.register_parameter("weight", weight.requires_grad_(), /*is_buffer=*/false);
  network.define(std::string("def forward(self, x):\n    torch.warn(\"beware\\n") + forged +
                 "\", 2)\n    return torch.linear(x, self.weight)\n");
  std::ostringstream out;
  network.save(out);
  const std::string file = out.str();
  const ByteSpan bytes = bytes_of(file);
  return {bytes.begin(), bytes.end()};
}

/// What is written to standard error while `work` runs.
template <typename Work>
std::string said(const Work& work) {
  const TemporaryFolder folder;
  const std::string path = (folder.path / "said").string();
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(file, STDERR_FILENO);
  work();
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(file);
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a network that warns writes nothing to standard error", "[runtime][torchscript]") {
  use_one_thread();
  const Bytes file = warning_network();
  // The same network does warn where nobody listens in its place.
  std::istringstream in{std::string(text_of(file))};
  torch::jit::Module bare = torch::jit::load(in);
  REQUIRE(said([&] { bare.forward({at::ones({1, 4})}); }).find(forged) != std::string::npos);

  const Architecture architecture{.kind = std::string(user_architecture), .input_shape = {4}, .outputs = 2};
  const std::vector<float> inputs = reference::uniform(4 * 8, -1, 1, 2);
  const std::vector<std::int64_t> labels = {0, 1, 0, 1, 0, 1, 0, 1};
  std::size_t answers = 0, engines = 0;
  std::string wrong;
  const std::string all = said([&] {
    const auto work = [&] {
      auto built = Model::build(architecture, file);
      if (!built) {
        wrong += built.error().detail;
        return;
      }
      Model& model = *built;
      if (const auto tried = torchscript::try_network(model, TaskKind::classification, inputs); !tried)
        wrong += tried.error().detail;
      answers += model.forward(inputs, 8).value_or(std::vector<float>()).size();
      if (const auto trained = train(model, model.weights(), {inputs, labels}, {.batch_size = 4}); !trained)
        wrong += trained.error().detail;
      InferenceSpec spec{architecture, model.layout(), TaskKind::classification, {}, {}};
      spec.graph = file;
      const auto ranges = calibrate(spec, model.weights(), inputs);
      for (const Engine& engine : candidate_engines()) {
        if (engine.kind == EngineKind::int8_static && !ranges) continue;
        EngineSetup setup{engine, {}};
        if (engine.kind == EngineKind::int8_static) setup.ranges = *ranges;
        const auto loaded = InferenceModel::load(spec, model.weights(), setup);
        if (loaded && loaded->infer_batch(inputs)) ++engines;
      }
    };
    work();
    std::thread(work).join();  // Handlers are a thread's own.
  });
  CHECK(wrong == "");
  CHECK(answers == 2 * 16);
  CHECK(engines >= 4);
  CHECK(all == "");
}
