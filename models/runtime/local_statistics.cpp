#include "models/runtime/local_statistics.h"

#include <algorithm>

#include "models/runtime/model_impl.h"

namespace rivulet {
namespace {

constexpr std::size_t batch_samples = 32;
/// At the usual momentum of 0.1 the old statistics then weigh 0.9^64, a thousandth.
constexpr std::size_t batches = 64;

/// Batch norm alone works as in training, so that dropout disturbs nothing.
void set_norms_training(const torch::jit::Module& module, bool on) {
  for (torch::jit::Module part : module.modules()) {
    if (part.hasattr("running_mean") && part.hasattr("training")) part.setattr("training", on);
  }
}

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
    set_norms_training(impl.module, true);
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
    set_norms_training(impl.module, false);
    return model.weights();
  });
}

}  // namespace rivulet
