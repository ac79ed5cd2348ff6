// Networks that users bring, in training: what moves, by how much, and what stays.
#include <algorithm>
#include <cmath>

#include "models/runtime/training.h"
#include "tests/models_runtime/python_networks.h"
#include "tests/models_runtime/reference_networks.h"

using namespace rivulet;
using namespace rivulet::tests;

namespace {

namespace fs = std::filesystem;

TrainingData images(const std::vector<float>& inputs, const std::vector<std::int64_t>& labels) {
  return {.inputs = inputs, .labels = labels};
}

}  // namespace

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

TEST_CASE("every parameter of recurrent layers, attention, weight norm and filters trains",
          "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const std::string name = GENERATE("recurrent", "attention", "sequence", "temporal", "spectrum");
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
