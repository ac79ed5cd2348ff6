// Networks that users bring. PyTorch itself writes the files, and has the last word on their answers.
#include <spdlog/fmt/fmt.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "models/runtime/calibration.h"
#include "models/runtime/evaluation.h"
#include "models/runtime/inference.h"
#include "models/runtime/local_statistics.h"
#include "models/runtime/model.h"
#include "models/runtime/torchscript/archive.h"
#include "models/runtime/torchscript/trial.h"
#include "models/runtime/training.h"
#include "tests/catch.h"
#include "tests/models_runtime/python_networks.h"
#include "tests/models_runtime/reference_networks.h"

using namespace rivulet;
using namespace rivulet::tests;

namespace {

namespace fs = std::filesystem;

const Architecture image_architecture{
    .kind = "torchscript", .hidden = {}, .input_shape = {1, 12, 12}, .outputs = 5};

std::vector<float> read_floats(const fs::path& file) {
  const Bytes bytes = read_all(file);
  std::vector<float> numbers(bytes.size() / sizeof(float));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}

/// As an import does it: build, then try.
Status import_file(const Bytes& file, TaskKind task = TaskKind::classification,
                   const Architecture& architecture = image_architecture) {
  auto model = Model::build(architecture, file);
  if (!model) return std::unexpected(model.error());
  const auto inputs = reference::uniform(4 * architecture.input_size(), 0, 1, 3);
  const auto notes = torchscript::try_network(*model, task, inputs);
  if (!notes) return std::unexpected(notes.error());
  return {};
}

TrainingData images(const std::vector<float>& inputs, const std::vector<std::int64_t>& labels) {
  return {.inputs = inputs, .labels = labels};
}

}  // namespace

TEST_CASE("a network from Python has its weights and answers as Python does", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const std::string name =
      GENERATE("residual", "sequence", "recurrent", "attention", "tied", "listing", "sizes", "tokens");
  CAPTURE(name);
  const Bytes file = read_all(files / (name + ".pt"));
  Model model = Model::build(image_architecture, file).value();
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
  CHECK(import_file(graph).error().detail.find("gradient") != std::string::npos);  // All zeros train nothing.
}

TEST_CASE("a network from Python is served by every engine, in float as Python answers, in int8 nearly so",
          "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const std::string name = GENERATE("residual", "recurrent", "tokens");
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

TEST_CASE("a network from Python trains: dropout and statistics work in training alone", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  Model model = Model::build(image_architecture, read_all(files / "residual.pt")).value();
  const std::vector<float> base = model.weights();
  const std::vector<float> inputs = reference::uniform(41 * 144, 0, 1, 5);
  std::vector<std::int64_t> labels(41);
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int64_t>(i % 5);
  const TrainingParameters parameters{.epochs = 20,
                                      .batch_size = 20,
                                      .learning_rate = 0.1,
                                      .weight_decay = 0.5,
                                      .proximal_mu = 0.1,
                                      .seed = 9};
  const TrainingOutcome outcome = train(model, base, images(inputs, labels), parameters).value();
  REQUIRE(outcome.end == TrainingEnd::finished);
  CHECK(outcome.steps == 40);  // The 41st sample is a batch of one, which batch norm cannot take.
  CHECK(outcome.loss_last < outcome.loss_first);
  std::size_t at = 0;
  for (const TensorSpec& tensor : model.layout().tensors) {
    double moved = 0;
    for (std::size_t i = 0; i < tensor.size(); ++i) moved += std::abs(outcome.delta[at + i]);
    at += tensor.size();
    CAPTURE(tensor.name);
    CHECK(moved > 0);
  }
  const std::vector<float> trained = model.weights();
  const auto answers = model.forward(inputs, 41).value();
  CHECK(model.forward(inputs, 41).value() == answers);  // No dropout any more,
  CHECK(model.weights() == trained);                    // and statistics stand still.
  // Local counters begin anew: the same call gives the same bits.
  CHECK(train(model, base, images(inputs, labels), parameters).value().delta == outcome.delta);
}

TEST_CASE("every parameter of recurrent layers and of attention trains", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const std::string name = GENERATE("recurrent", "attention", "sequence");
  CAPTURE(name);
  Model built = Model::build(image_architecture, read_all(files / (name + ".pt"))).value();
  Model copied = built.clone().value();
  const std::vector<float> base = built.weights();
  const std::vector<float> inputs = reference::uniform(20 * 144, -1, 1, 5);
  std::vector<std::int64_t> labels(20);
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int64_t>(i % 5);
  for (Model* model : {&built, &copied}) {
    const auto outcome =
        train(*model, base, images(inputs, labels),
              {.epochs = 30, .batch_size = 10, .learning_rate = 0.02, .optimizer = OptimizerKind::adam})
            .value();
    CHECK(outcome.loss_last < outcome.loss_first);
    std::size_t at = 0;
    for (const TensorSpec& tensor : model->layout().tensors) {
      double moved = 0;
      for (std::size_t i = 0; i < tensor.size(); ++i) moved += std::abs(outcome.delta[at + i]);
      at += tensor.size();
      CAPTURE(tensor.name);
      CHECK((moved > 0) == (tensor.kind == TensorKind::parameter));
    }
  }
}

TEST_CASE("running statistics are moved by the forward pass alone, and count in no norm", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  Model model = Model::build(image_architecture, read_all(files / "calm.pt")).value();
  const std::vector<float> base = model.weights();
  const std::vector<float> inputs = reference::uniform(8 * 144, 5, 9, 5);  // Far from mean 0, variance 1.
  const std::vector<std::int64_t> labels{0, 1, 2, 3, 4, 0, 1, 2};
  const auto with = [&](double decay, double clip) {
    return train(model, base, images(inputs, labels),
                 {.batch_size = 8, .learning_rate = 1e-3, .weight_decay = decay, .clip_norm = clip})
        .value();
  };
  const TrainingOutcome plain = with(0, 0), decayed = with(10, 0), clipped = with(0, 1e-4);
  const auto statistics = ranges_of(model.layout(), TensorKind::statistic);
  const auto parameters = ranges_of(model.layout(), TensorKind::parameter);
  double statistics_moved = 0;
  for (const auto [begin, end] : statistics) {
    for (std::size_t i = begin; i < end; ++i) {
      statistics_moved = std::max(statistics_moved, std::abs(static_cast<double>(plain.delta[i])));
      CHECK(decayed.delta[i] == plain.delta[i]);
      CHECK(clipped.delta[i] == plain.delta[i]);
    }
  }
  CHECK(statistics_moved > 0.01);
  double squares = 0;
  for (const auto [begin, end] : parameters) {
    for (std::size_t i = begin; i < end; ++i) squares += std::pow(static_cast<double>(clipped.delta[i]), 2);
  }
  CHECK(std::sqrt(squares) == Approx(1e-4).epsilon(1e-3));
  CHECK(plain.delta_norm < 1);  // Without the statistics, which moved by more.

  // The first batch norm after one step by hand: 0.9 * old + 0.1 * of the batch, of what the stem gives.
  std::size_t at = 0;
  std::vector<float> stem, bias, mean;
  for (const TensorSpec& tensor : model.layout().tensors) {
    const auto begin = static_cast<std::ptrdiff_t>(at),
               end = begin + static_cast<std::ptrdiff_t>(tensor.size());
    if (tensor.name == "stem.weight") stem.assign(base.begin() + begin, base.begin() + end);
    if (tensor.name == "stem.bias") bias.assign(base.begin() + begin, base.begin() + end);
    if (tensor.name == "bn.running_mean") mean.assign(plain.delta.begin() + begin, plain.delta.begin() + end);
    at += tensor.size();
  }
  for (std::size_t channel = 0; channel < 6; ++channel) {
    double sum = 0;
    for (std::size_t n = 0; n < 8; ++n)
      for (int row = 0; row < 12; ++row)
        for (int column = 0; column < 12; ++column)
          for (int y = -1; y <= 1; ++y)
            for (int x = -1; x <= 1; ++x) {
              const int r = row + y, c = column + x;
              if (r < 0 || r > 11 || c < 0 || c > 11) continue;
              sum += static_cast<double>(stem[channel * 9 + static_cast<std::size_t>((y + 1) * 3 + x + 1)]) *
                     inputs[n * 144 + static_cast<std::size_t>(r * 12 + c)];
            }
    CHECK(mean[channel] == Approx(0.1 * (sum / (8 * 144) + bias[channel])).margin(1e-4));
  }
}

TEST_CASE("a node's own statistics are those of its samples, and nothing else changes", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  // With dropout: it must not disturb them.
  Model model = Model::build(image_architecture, read_all(files / "residual.pt")).value();
  const std::vector<float> base = model.weights();
  const std::vector<float> inputs = reference::uniform(65 * 144, 5, 9, 5);
  const std::vector<float> own = with_local_statistics(model, base, inputs).value();
  CHECK(model.weights() == own);
  CHECK(with_local_statistics(model, base, inputs).value() == own);
  for (const auto [begin, end] : ranges_of(model.layout(), TensorKind::parameter))
    CHECK(std::equal(base.begin() + static_cast<std::ptrdiff_t>(begin),
                     base.begin() + static_cast<std::ptrdiff_t>(end),
                     own.begin() + static_cast<std::ptrdiff_t>(begin)));
  // Independently: the mean of what the stem gives is linear in the mean of its inputs, zeros at the border.
  std::size_t at = 0;
  std::vector<float> stem, bias, mean;
  for (const TensorSpec& tensor : model.layout().tensors) {
    const auto begin = own.begin() + static_cast<std::ptrdiff_t>(at);
    const auto end = begin + static_cast<std::ptrdiff_t>(tensor.size());
    if (tensor.name == "stem.weight") stem.assign(begin, end);
    if (tensor.name == "stem.bias") bias.assign(begin, end);
    if (tensor.name == "bn.running_mean") mean.assign(begin, end);
    at += tensor.size();
  }
  for (std::size_t channel = 0; channel < 6; ++channel) {
    double expected = bias[channel];
    for (int y = -1; y <= 1; ++y)
      for (int x = -1; x <= 1;
           ++x)  // Inputs are 7 in the mean; a shifted window sees 11 of 12 rows or columns.
        expected += static_cast<double>(stem[channel * 9 + static_cast<std::size_t>((y + 1) * 3 + x + 1)]) *
                    7.0 * (y == 0 ? 1.0 : 11.0 / 12) * (x == 0 ? 1.0 : 11.0 / 12);
    CHECK(mean[channel] == Approx(expected).margin(0.1));
  }
  CHECK(with_local_statistics(model, base, std::span(inputs).first(144)).value() ==
        base);  // One has no variance.
}

TEST_CASE("a node's own statistics are those of its samples, whatever the momentum of its norms",
          "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  // Of 64 batches the old statistics would keep 0.99^64 = 53 %, and at a momentum of None 3 of 67 parts.
  const std::string name = GENERATE("calm", "slow", "cumulative", "still");
  CAPTURE(name);
  Model model = Model::build(image_architecture, read_all(files / (name + ".pt"))).value();
  const std::vector<float> base = model.weights();
  const std::vector<float> inputs = reference::uniform(32 * 144, 5, 9, 5);
  const std::vector<float> own = with_local_statistics(model, base, inputs).value();
  CHECK(with_local_statistics(model, base, inputs).value() == own);
  if (name == "still") {
    CHECK(own == base);  // A momentum of 0 says that nothing moves them.
    return;
  }
  // One batch, over and over: mean and variance (with n - 1) of what the stem gives, by hand.
  std::size_t at = 0;
  std::map<std::string, std::vector<float>> tensors;
  for (const TensorSpec& tensor : model.layout().tensors) {
    const auto begin = own.begin() + static_cast<std::ptrdiff_t>(at);
    tensors[tensor.name].assign(begin, begin + static_cast<std::ptrdiff_t>(tensor.size()));
    at += tensor.size();
  }
  const auto& stem = tensors.at("stem.weight");
  for (std::size_t channel = 0; channel < 6; ++channel) {
    double sum = 0;
    double squares = 0;
    for (std::size_t n = 0; n < 32; ++n)
      for (int row = 0; row < 12; ++row)
        for (int column = 0; column < 12; ++column) {
          double value = tensors.at("stem.bias")[channel];
          for (int y = -1; y <= 1; ++y)
            for (int x = -1; x <= 1; ++x) {
              const int r = row + y, c = column + x;
              if (r < 0 || r > 11 || c < 0 || c > 11) continue;
              value +=
                  static_cast<double>(stem[channel * 9 + static_cast<std::size_t>((y + 1) * 3 + x + 1)]) *
                  inputs[n * 144 + static_cast<std::size_t>(r * 12 + c)];
            }
          sum += value;
          squares += value * value;
        }
    constexpr double count = 32 * 144;
    const double mean = sum / count;
    CHECK(tensors.at("bn.running_mean")[channel] == Approx(mean).epsilon(1e-3).margin(1e-4));
    CHECK(tensors.at("bn.running_var")[channel] ==
          Approx((squares - count * mean * mean) / (count - 1)).epsilon(2e-3));
  }
}

TEST_CASE("a network that fails while its statistics are measured answers as before", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  Model model = Model::build(image_architecture, read_all(files / "narrow.pt")).value();
  const std::vector<float> base = model.weights();
  const std::vector<float> inputs = reference::uniform(40 * 144, 5, 9, 5);
  const std::vector<float> answers = model.forward(inputs, 40).value();
  const auto measured = with_local_statistics(model, base, inputs);
  REQUIRE_FALSE(measured);
  CHECK(measured.error().code == Errc::internal);
  CHECK(model.forward(inputs, 40).value() == answers);
  CHECK(model.weights() == base);  // In training, answering would move the statistics.
}

TEST_CASE("what the user froze stays, whatever the optimizer", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  Model model = Model::build(image_architecture, read_all(files / "tied.pt")).value();
  const std::vector<float> base = model.weights();
  const std::vector<float> inputs = reference::uniform(8 * 144, 0, 1, 5);
  const std::vector<std::int64_t> labels{0, 1, 2, 3, 4, 0, 1, 2};
  for (const OptimizerKind optimizer : {OptimizerKind::sgd, OptimizerKind::adam}) {
    const auto outcome =
        train(model, base, images(inputs, labels),
              {.batch_size = 4, .learning_rate = 0.01, .weight_decay = 1, .optimizer = optimizer})
            .value();
    const std::span<const float> bias = std::span(outcome.delta).last(5);
    REQUIRE(model.layout().tensors.back().name == "head.bias");
    CHECK(std::ranges::all_of(bias, [](float x) { return x == 0.0F; }));
    CHECK(outcome.delta_norm > 0);
  }
}

TEST_CASE("a traced network is taken with a note on what it does not do", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  Model model = Model::build(image_architecture, read_all(files / "traced.pt")).value();
  const auto notes =
      torchscript::try_network(model, TaskKind::classification, reference::uniform(4 * 144, 0, 1, 3)).value();
  REQUIRE(!notes.empty());
  CHECK(notes.front().find("traced after eval()") != std::string::npos);
  const auto scripted = Model::build(image_architecture, read_all(files / "calm.pt")).value().weights();
  CHECK(model.weights() == scripted);
}

TEST_CASE("what cannot take part is refused with the reason, and nothing of it runs", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  struct Case {
    const char* file;
    const char* said;
  };
  for (const auto& [file, said] : std::vector<Case>{
           {"Weightless", "it has no parameters"},
           {"frozen", "it has no parameters"},
           {"untrained", "none of its parameters has requires_grad"},
           {"Integers", "its parameter counts is of type Long, and only float32 can be trained"},
           {"half", "is of type Half, and only float32 can be trained: call model.float()"},
           {"double", "is of type Double, and only float32 can be trained: call model.float()"},
           {"Pair", "its forward returns (Tensor, Tensor)"},
           {"TwoInputs", "its forward must take one tensor"},
           {"Flat", "it answers 4 samples with shape [4], which the loss cannot take: it must be [4, 5]"},
           {"Classes", "its answers are of type Long, which the loss cannot take"},
           {"FixedBatch", "it cannot take inputs of shape [1, 1, 12, 12]"},
           {"Detached", "its answers do not depend on its parameters"},
           {"Infinite", "one of its weights is not finite"},
           {"Random", "its answer to a sample differs from one time to the next"},
           {"Counting", "it changes its own tensors while it answers"},
           {"traced", "always works as in training"},
           {"Endless", "it uses prim::Loop"},
           {"Long", "it uses prim::Loop"},
           // Each would turn far more often than 2^24 times, in a branch that the trial never takes.
           {"Remainder", "it uses prim::Loop"},
           {"Fraction", "it uses prim::Loop"},
           {"SetEntry", "lists that the code changes"},
           {"SetSize", "lists that the code changes"},
           {"SetAttribute", "lists that the code changes"},
           {"Nested", "lists that the code changes"},
           {"Doubling", "it uses prim::Loop"},
           {"Extending", "lists that the code changes"},
           {"Growing", "it uses prim::Loop"},
           {"Chasing", "it uses prim::Loop"},
           {"Text", "it uses prim::Loop"},
           // Sizes that no memory stands behind.
           {"MadeUp", "it uses prim::Loop"},
           {"MadeUpEmpty", "it uses prim::Loop"},
           {"MadeUpView", "it uses prim::Loop"},
           {"MadeUpFlat", "it uses prim::Loop"},
           {"MadeUpLength", "it uses prim::Loop"},
           {"MadeUpRepeat", "it uses prim::Loop"},
           {"MadeUpInPlace", "it uses prim::Loop"},
           {"MadeUpOut", "it uses prim::Loop"},
           {"MadeUpInTurns", "it uses prim::Loop"},
           {"MadeUpState", "it uses prim::Loop"},
           {"Writes", "it uses aten::save (write_torchscript.py:"},
           {"WritesUnreached", "it uses aten::save"},
           {"Reads", "it uses aten::from_file"},
           {"Prints", "it uses prim::Print"},
           {"Memory", "it uses aten::empty"},
           {"Forks", "it uses prim::fork"},
           {"AtLoad", "which runs while the file is loaded"},
           {"overwriting", "which runs while the file is loaded"},
           {"long_name", "500 are allowed"},
           {"other_case", ".PY' is none that torch.jit.save() writes"},
           {"legacy", "'model.json' is none that torch.jit.save() writes"},
           {"twice", "'DATA.pkl' is none that torch.jit.save() writes"},
           {"bomb", "MiB once unpacked"},
           {"code", "MiB of code"},
           {"InList", "its attribute things can hold an object"},
           {"InTuple", "its attribute things can hold an object"},
           {"Unreached", "it uses aten::from_file"},
           {"Local", "an object of a class"},
           {"operator", "it uses the operator aten::max_pool_of_2031, which LibTorch 1."},
           {"new", "it has file format 99, but LibTorch 1."},
           {"pickle", "as torch.save() leaves it"},
           {"part", "it lacks its part 'data.pkl'"},
           {"empty", "it is empty"},
           {"short", "it is no TorchScript file, or a damaged one"},
           {"text", "it is no TorchScript file, or a damaged one"},
       }) {
    CAPTURE(file);
    const Status status = import_file(read_all(files / fmt::format("bad_{}.pt", file)));
    REQUIRE(!status);
    CAPTURE(status.error().detail);
    CHECK(status.error().detail.find(said) != std::string::npos);
    CHECK(status.error().detail.find('\n') == std::string::npos);
    CHECK(!fs::exists("WRITTEN"));
    CHECK(victim_is_whole());
  }
}

TEST_CASE("inputs and outputs are those of the specification", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const Bytes file = read_all(files / "residual.pt");
  Architecture other = image_architecture;
  other.input_shape = {1, 10, 10};
  Status status = import_file(file, TaskKind::classification, other);
  CHECK(status.error().detail.find("it cannot take inputs of shape [4, 1, 10, 10]") != std::string::npos);
  other = image_architecture;
  other.outputs = 7;
  status = import_file(file, TaskKind::classification, other);
  CHECK(status.error().detail.find("shape [4, 5]") != std::string::npos);
  other.outputs = 144;
  status = import_file(file, TaskKind::anomaly, other);
  CHECK(status.error().detail.find("it must be [4, 1, 12, 12] (the input rebuilt)") != std::string::npos);
  CHECK(import_file(file, TaskKind::regression).has_value());  // Five values a sample.
  other.outputs = 1;
  const Bytes flat = read_all(files / "bad_Flat.pt");
  CHECK(import_file(flat, TaskKind::regression, other).has_value());  // [n] is as good as [n, 1].
  CHECK(torchscript::check_archive(Bytes(torchscript::file_bytes_max + 1)).error().code == Errc::too_large);
}
