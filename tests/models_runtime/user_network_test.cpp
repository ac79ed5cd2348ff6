// Networks that users bring: PyTorch itself writes the files, and has the last word on their answers.
#include <cstring>
#include <map>

#include "models/runtime/calibration.h"
#include "models/runtime/evaluation.h"
#include "models/runtime/inference.h"
#include "models/runtime/torchscript/archive.h"
#include "tests/models_runtime/user_import.h"

using namespace rivulet;
using namespace rivulet::tests;

namespace {

namespace fs = std::filesystem;

std::vector<float> read_floats(const fs::path& file) {
  const Bytes bytes = read_all(file);
  std::vector<float> numbers(bytes.size() / sizeof(float));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}

}  // namespace

TEST_CASE("a network from Python has its weights and answers as Python does", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const std::string name = GENERATE("residual", "sequence", "recurrent", "attention", "tied", "listing",
                                    "sizes", "tokens", "keeping", "temporal", "spectrum");
  CAPTURE(name);
  const Bytes file = read_all(files / (name + ".pt"));
  auto built = Model::build(image_architecture, file);
  INFO((built ? "" : built.error().detail));
  REQUIRE(built);
  Model& model = *built;
  const std::vector<float> inputs = read_floats(files / (name + ".inputs.f32"));
  const std::vector<float> expected = read_floats(files / (name + ".outputs.f32"));
  const auto matches = [&](Model& tried) {
    const auto answers = tried.forward(inputs, 6).value();
    REQUIRE(answers.size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK(answers[i] == Approx(expected[i]).margin(1e-5));
  };
  matches(model);

  // What a release signs has no weights, and is the same network once it gets them.
  const Bytes graph = torchscript::graph_of(file).value();
  Model from_graph = Model::build(image_architecture, graph).value();
  CHECK(from_graph.layout() == model.layout());
  CHECK(from_graph.weights() == std::vector<float>(model.size()));
  REQUIRE(from_graph.set_weights(model.weights()));
  matches(from_graph);
  Model copy = from_graph.clone().value();
  REQUIRE(from_graph.set_weights(std::vector<float>(model.size())));  // The copy shares nothing with it.
  matches(copy);
  const Status imported = import_file(file);
  INFO((imported ? std::string() : imported.error().detail));
  CHECK(imported.has_value());
  // All zeros train nothing, and have no norm to divide by.
  const char* const zeros = name == "temporal" ? "not finite" : "gradient";
  CHECK(import_file(graph).error().detail.find(zeros) != std::string::npos);
}

TEST_CASE("a network from Python is served by every engine, in float as Python answers, in int8 nearly so",
          "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const std::string name = GENERATE("residual", "recurrent", "tokens", "temporal", "spectrum");
  CAPTURE(name);
  const Bytes file = read_all(files / (name + ".pt"));
  const Model model = Model::build(image_architecture, file).value();
  const InferenceSpec spec{.architecture = image_architecture,
                           .layout = model.layout(),
                           .task = TaskKind::classification,
                           .preprocessing = {},
                           .classes = {},
                           .graph = torchscript::graph_of(file).value()};
  const std::vector<float> inputs = read_floats(files / (name + ".inputs.f32"));
  const auto predictions = [&](const EngineSetup& setup) {
    const auto loaded = InferenceModel::load(spec, model.weights(), setup);
    INFO((loaded ? std::string() : loaded.error().detail));
    REQUIRE(loaded);
    return loaded->infer_batch(inputs).value();
  };
  const auto check_close = [&](const EngineSetup& setup, float margin) {
    std::vector<float> expected = read_floats(files / (name + ".outputs.f32"));
    const auto answered = predictions(setup);
    for (std::size_t i = 0; i < answered.size(); ++i) {
      const auto row = std::span(expected).subspan(i * 5, 5);
      softmax(row);
      for (std::size_t c = 0; c < 5; ++c)
        CHECK(answered[i].probabilities[c] == Approx(row[c]).margin(margin));
    }
  };
  check_close({.engine = {.kind = EngineKind::fp32_script}}, 1e-5F);
  check_close({.engine = {.kind = EngineKind::fp32_optimized}}, 1e-5F);
  check_close({.engine = {.kind = EngineKind::int8_dynamic, .backend = Int8Backend::onednn}}, 0.05F);
  if (name != "recurrent") {
    const auto ranges = calibrate(spec, model.weights(), inputs);
    INFO((ranges ? std::string() : ranges.error().detail));
    REQUIRE(ranges);
    check_close(
        {.engine = {.kind = EngineKind::int8_static, .backend = Int8Backend::onednn}, .ranges = *ranges},
        0.05F);
  }
  InferenceSpec other = spec;
  other.layout.tensors.pop_back();
  CHECK_FALSE(InferenceModel::load(other, std::vector<float>(other.layout.size())));
}

TEST_CASE("the layout names parameters and running statistics as Python does, and counters are not in it",
          "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const Model model = Model::build(image_architecture, read_all(files / "residual.pt")).value();
  std::map<std::string, TensorSpec> tensors;
  for (const TensorSpec& tensor : model.layout().tensors) tensors[tensor.name] = tensor;
  CHECK(tensors.size() == 3 * 4 + 2 + 2 + 2);  // Three batch norms, stem, two bare convolutions, fc.
  CHECK(tensors.at("stem.weight") == TensorSpec{"stem.weight", {6, 1, 3, 3}, TensorKind::parameter});
  CHECK(tensors.at("block.bn2.running_var") ==
        TensorSpec{"block.bn2.running_var", {6}, TensorKind::statistic});
  CHECK(tensors.at("block.bn2.weight").kind == TensorKind::parameter);
  CHECK(!tensors.contains("bn.num_batches_tracked"));

  const Model tied = Model::build(image_architecture, read_all(files / "tied.pt")).value();
  CHECK(tied.size() == 144 * 144 + 144 + 144 * 5 + 5);  // The layer that is used twice is there once.
}
