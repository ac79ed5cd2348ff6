#pragma once

// Includes torch: only for the .cpp files of models/runtime and their tests.
#include <torch/script.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "models/quantization/engine.h"
#include "models/quantization/ranges.h"
#include "protocol/result.h"

// Int8 forms of any TorchScript module, by LibTorch's graph passes and operators. What returns a Result does
// not throw; a module that can't be quantized is Errc::unsupported.
namespace rivulet::int8 {

/// Makes the float module anew: in eval mode, in a compilation unit of its own. LibTorch's passes leave
/// what they make, with its weights, in the unit that they worked in, so that each attempt needs a new one.
using ModuleFactory = std::function<torch::jit::Module()>;

/// While it lives, weights are packed for `backend`. LibTorch holds the choice for the whole process, so
/// guards wait for each other; what other threads run meanwhile is packed already and stays as it is.
class BackendGuard {
 public:
  explicit BackendGuard(Int8Backend backend);
  BackendGuard(const BackendGuard&) = delete;
  BackendGuard& operator=(const BackendGuard&) = delete;
  ~BackendGuard();

 private:
  at::QEngine before_;
};

/// Runs `batches` through the float module and records the range of every activation that will be
/// quantized. First finds what LibTorch refuses to quantize, which stays in float: by building and running
/// on the first sample the module with all submodules in int8, and while it fails, with halves of them.
/// @param batches  inputs as `forward` takes them; at least one.
/// @return corrupt when an activation is not finite, unsupported when nothing can be quantized.
Result<ActivationRanges> calibrate(const ModuleFactory& make, std::span<const at::Tensor> batches);

/// Whose code computes what a module has in static int8.
enum class Kernels : std::uint8_t {
  own,       ///< Ours for small layers where the CPU has the instructions (vnni_kernels.h), LibTorch's else.
  libtorch,  ///< LibTorch's alone.
};

/// A module in static int8. Weights are symmetric per index of their first dimension (the output channel,
/// save of transposed convolutions) with the integers of our int8 snapshots, after batch norm has been folded
/// into the convolution before it.
/// @return invalid when the ranges are not of this network.
Result<torch::jit::Module> build_static(const ModuleFactory& make, const ActivationRanges& ranges,
                                        Int8Backend backend, ActivationBits bits,
                                        Kernels kernels = Kernels::own);

/// A frozen module whose dense, GRU and LSTM layers with constant weights multiply in int8, with the
/// integers of our int8 snapshots; the rest is optimized for inference in float.
Result<torch::jit::Module> build_dynamic(const ModuleFactory& make, Int8Backend backend, ActivationBits bits);

/// How build_static and build_dynamic quantize a weight: the form of models/package/snapshot.h.
struct QuantizedWeight {
  at::Tensor entries;  ///< int8, of the weight's shape.
  at::Tensor scales;   ///< [first dimension], float32; 1 for a channel of zeros, which has none.
};
/// @param weight  float32 of at least two dimensions, finite; throws std::runtime_error otherwise.
QuantizedWeight quantize_weight(const at::Tensor& weight);

}  // namespace rivulet::int8
