#include "models/runtime/local_statistics.h"

#include <algorithm>

#include "models/runtime/input_tensor.h"
#include "models/runtime/model_impl.h"
#include "models/runtime/torchscript/network.h"

namespace rivulet {
namespace {

constexpr std::size_t batch_samples = 32;
constexpr std::size_t batches = 64;
/// The fewest that have a variance.
constexpr std::size_t few_samples = 2;
/// Below, a norm's momentum is so small that nothing can be told of what it has seen.
constexpr double share_least = 1e-6;

/// While it lives, batch norm alone works as in training: dropout disturbs nothing.
class TrainingNorms {
 public:
  explicit TrainingNorms(const torch::jit::Module& module) {
    for (const torch::jit::Module& part : module.modules()) {
      const bool is_norm = part.hasattr("running_mean") && part.hasattr("training");
      if (is_norm && part.attr("training").isBool()) norms_.push_back(part);
    }
    set(true);
  }
  TrainingNorms(const TrainingNorms&) = delete;
  TrainingNorms& operator=(const TrainingNorms&) = delete;
  ~TrainingNorms() { set(false); }

  /// Means and variances of all of them, those that several share once.
  [[nodiscard]] std::vector<at::Tensor> statistics() const {
    std::vector<at::Tensor> tensors;
    for (const torch::jit::Module& norm : norms_) {
      for (const char* name : {"running_mean", "running_var"}) {
        if (!norm.hasattr(name) || !norm.attr(name).isTensor()) continue;
        const at::Tensor tensor = norm.attr(name).toTensor();
        const auto same = [&](const at::Tensor& other) { return other.data_ptr() == tensor.data_ptr(); };
        if (std::ranges::none_of(tensors, same)) tensors.push_back(tensor);
      }
    }
    return tensors;
  }

 private:
  void set(bool on) {
    for (torch::jit::Module& norm : norms_) norm.setattr("training", on);
  }

  std::vector<torch::jit::Module> norms_;
};

std::vector<at::Tensor> copies_of(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> copies;
  for (const at::Tensor& tensor : tensors) copies.push_back(tensor.clone());
  return copies;
}

/// Runs batches of the samples, which move the statistics.
/// @param samples so many of the inputs. @param rows of a batch at most.
void run_batches(Model::Impl& model, std::span<const float> inputs, std::size_t samples, std::size_t rows) {
  const std::size_t size = model.architecture.input_size();
  if (model.user) model.user->reset_local();  // With a momentum of None, the counts of batches are weights.
  std::size_t begin = 0;
  for (std::size_t batch = 0; batch < batches; ++batch) {
    const std::size_t count = std::min(batch_samples, samples - begin);
    if (count >= few_samples) {
      const std::size_t taken = std::min(count, rows);
      model.module.forward({input_tensor(inputs.subspan(begin * size, taken * size), taken)});
    }
    begin = begin + count < samples ? begin + count : 0;
  }
}

/// Batches leave share * old + (1 - share) * seen of each statistic, where the share follows from the norm's
/// momentum, which TorchScript does not tell. Two runs of small batches, from zeros and from numbers that are
/// as great as what the first one leaves, show it; then `seen` is what a run from zeros leaves by 1 - share.
void measure(Model::Impl& model, const std::vector<at::Tensor>& statistics, std::span<const float> inputs,
             std::size_t samples) {
  const std::vector<at::Tensor> old = copies_of(statistics);
  const auto start = [&](auto&& value_of) {
    for (std::size_t i = 0; i < statistics.size(); ++i) statistics[i].copy_(value_of(i));
  };
  const auto zeros = [&](std::size_t i) { return at::zeros_like(statistics[i]); };
  start(zeros);
  run_batches(model, inputs, samples, few_samples);
  const std::vector<at::Tensor> from_zeros = copies_of(statistics);
  const auto begun = [&](std::size_t i) { return from_zeros[i].abs() + 1; };
  start(begun);
  run_batches(model, inputs, samples, few_samples);
  std::vector<at::Tensor> share;
  for (std::size_t i = 0; i < statistics.size(); ++i)
    share.push_back((statistics[i].to(at::kDouble) - from_zeros[i]) / begun(i));
  start(zeros);
  run_batches(model, inputs, samples, batch_samples);
  start([&](std::size_t i) {
    const at::Tensor seen = 1 - share[i];
    return at::where(seen > share_least, statistics[i] / seen, old[i].to(at::kDouble));
  });
}

}  // namespace

Result<std::vector<float>> with_local_statistics(Model& model, std::span<const float> weights,
                                                 std::span<const float> inputs) {
  if (Status status = model.set_weights(weights); !status) return std::unexpected(status.error());
  const std::size_t size = model.architecture().input_size();
  const std::size_t samples = std::min(inputs.size() / size, batches * batch_samples);
  if (samples < few_samples) return model.weights();
  auto measured = catch_torch("measuring statistics", [&]() -> Result<std::vector<float>> {
    const at::NoGradGuard no_grad;
    const PlainExecution plain;
    Model::Impl& impl = model.impl();
    const TrainingNorms training(impl.module);
    measure(impl, training.statistics(), inputs, samples);
    if (impl.user) impl.user->reset_local();
    return model.weights();
  });
  if (measured) return measured;
  // It may have ended half-way.
  if (Status restored = model.set_weights(weights); !restored) return std::unexpected(restored.error());
  return measured;
}

}  // namespace rivulet
