#include "models/runtime/local_statistics.h"

#include <algorithm>

#include "models/runtime/model_impl.h"

namespace rivulet {
namespace {

constexpr std::size_t batch_samples = 32;
/// At the usual momentum of 0.1 the old statistics then weigh 0.9^64, a thousandth.
constexpr std::size_t batches = 64;

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

 private:
  void set(bool on) {
    for (torch::jit::Module& norm : norms_) norm.setattr("training", on);
  }

  std::vector<torch::jit::Module> norms_;
};

}  // namespace

Result<std::vector<float>> with_local_statistics(Model& model, std::span<const float> weights,
                                                 std::span<const float> inputs) {
  if (Status status = model.set_weights(weights); !status) return std::unexpected(status.error());
  const std::size_t size = model.architecture().input_size();
  const std::size_t samples = std::min(inputs.size() / size, batches * batch_samples);
  if (samples < 2) return model.weights();
  return catch_torch("measuring statistics", [&]() -> Result<std::vector<float>> {
    const at::NoGradGuard no_grad;
    const PlainExecution plain;
    Model::Impl& impl = model.impl();
    const TrainingNorms training(impl.module);
    std::size_t begin = 0;
    for (std::size_t batch = 0; batch < batches; ++batch) {
      const std::size_t count = std::min(batch_samples, samples - begin);
      if (count >= 2) {
        const auto rows = inputs.subspan(begin * size, count * size);
        // The network only reads its input; from_blob has no form for constant memory.
        impl.module.forward(
            {at::from_blob(const_cast<float*>(rows.data()),
                           {static_cast<std::int64_t>(count), static_cast<std::int64_t>(size)}, at::kFloat)});
      }
      begin = begin + count < samples ? begin + count : 0;
    }
    return model.weights();
  });
}

}  // namespace rivulet
