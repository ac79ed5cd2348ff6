#include <torch/script.h>

#include <cmath>
#include <map>
#include <sstream>

#include "models/runtime/architectures.h"
#include "models/runtime/model.h"
#include "models/runtime/runtime.h"
#include "models/runtime/training.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"
#include "tests/models_runtime/small_architectures.h"

using namespace rivulet;

namespace {

/// A network in double precision, by way of its TorchScript file: differences of its loss are exact to
/// ten digits.
class DoubleTwin {
 public:
  DoubleTwin(const Bytes& file, const Architecture& architecture, std::span<const float> inputs,
             std::span<const std::int64_t> labels)
      : labels_(labels) {
    std::istringstream in{std::string(text_of(file))};
    module_ = torch::jit::load(in);
    module_.to(at::kDouble);
    module_.train();  // The slope is that of training, where batch norm has the batch's own statistics.
    for (const auto& parameter : module_.named_parameters())
      parameters_.emplace(parameter.name, parameter.value.detach());
    std::vector<std::int64_t> shape = architecture.input_shape;
    shape.insert(shape.begin(), static_cast<std::int64_t>(inputs.size() / architecture.input_size()));
    inputs_ = at::from_blob(const_cast<float*>(inputs.data()), shape, at::kFloat).to(at::kDouble);
  }

  /// Mean cross-entropy; of a network without labels the mean squared error of rebuilding its input.
  double loss() {
    const at::NoGradGuard no_grad;
    const at::Tensor answers = module_.forward({inputs_}).toTensor();
    if (labels_.empty()) return at::mse_loss(answers, inputs_.reshape(answers.sizes())).item<double>();
    const at::Tensor labels = at::from_blob(const_cast<std::int64_t*>(labels_.data()),
                                            {static_cast<std::int64_t>(labels_.size())}, at::kLong);
    return at::cross_entropy_loss(answers, labels).item<double>();
  }

  /// Of the loss over entry `index` of a parameter.
  double slope(const std::string& parameter, std::size_t index, double step) {
    double& value = parameters_.at(parameter).data_ptr<double>()[index];
    const double before = value;
    value = before + step;
    const double above = loss();
    value = before - step;
    const double below = loss();
    value = before;
    return (above - below) / (2 * step);
  }

 private:
  torch::jit::Module module_;
  std::map<std::string, at::Tensor> parameters_;
  at::Tensor inputs_;
  std::span<const std::int64_t> labels_;
};

}  // namespace

TEST_CASE("the gradient of each kind is the slope of its loss", "[runtime][gradients]") {
  const std::string kind = GENERATE_COPY(from_range(architecture_kinds()));
  use_one_thread();
  const Architecture architecture = small_architecture(kind);
  Model model = Model::build(architecture).value();
  std::vector<float> weights = model.initial_weights(3);
  // Norms start with shifts of exactly 0, where ReLU of a lone pixel has no slope: move off it.
  const std::vector<float> noise = reference::uniform(weights.size(), -0.05, 0.05, 4);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] += noise[i];
  REQUIRE(model.set_weights(weights));

  constexpr std::size_t samples = 4;
  const std::vector<float> inputs = reference::uniform(samples * architecture.input_size(), -1, 1, 5);
  std::vector<std::int64_t> labels = {0, 1, 2, 1};
  TrainingData data{.inputs = inputs, .labels = labels};
  if (kind == "autoencoder") {
    labels.clear();
    data = {.inputs = inputs, .labels = {}, .targets = {}, .task = TaskKind::anomaly};
  }
  DoubleTwin twin(model.to_torchscript().value(), architecture, inputs, labels);
  // One step of plain descent over all samples with rate 1: the delta is the gradient's negative.
  const TrainingOutcome outcome =
      train(model, weights, data, {.epochs = 1, .batch_size = samples, .learning_rate = 1}).value();
  CHECK(outcome.loss_first == Approx(twin.loss()).epsilon(1e-5));

  // Every tensor's first and last entry, and a spread between; of a network with many tensors one of each.
  const bool is_deep = model.layout().tensors.size() > 100;
  // Through fifty norms, each over the sixteen numbers that are left of a channel, float32 keeps less.
  const bool has_norms = !ranges_of(model.layout(), TensorKind::statistic).empty();
  const double epsilon = has_norms ? 2e-2 : 2e-3;
  const double margin = has_norms ? 5e-2 : 2e-5;
  std::size_t compared = 0;
  std::size_t moved = 0;
  std::size_t at = 0;
  for (const TensorSpec& tensor : model.layout().tensors) {
    const std::size_t size = tensor.size();
    std::vector<std::size_t> entries = {0, size / 3, size / 2, size - 1};
    if (is_deep) entries = {size / 2};
    if (tensor.kind == TensorKind::statistic) entries.clear();
    for (const std::size_t entry : entries) {
      const double slope = twin.slope(tensor.name, entry, 1e-6);
      CAPTURE(kind, tensor.name, entry);
      CHECK(-outcome.delta[at + entry] == Approx(slope).epsilon(epsilon).margin(margin));
      ++compared;
      if (std::abs(slope) > 4 * margin) ++moved;
    }
    at += size;
  }
  CHECK(moved > compared / 4);  // A network that learns nothing would pass the comparison.
}
