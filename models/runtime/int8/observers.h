#pragma once

// Includes torch: only for the .cpp files of this folder.
#include <torch/script.h>

#include <set>
#include <string>
#include <vector>

#include "models/quantization/ranges.h"
#include "models/runtime/int8/module_int8.h"

namespace rivulet::int8 {

/// A copy of a float module in which observers watch what will be quantized.
struct ObservedModule {
  torch::jit::Module module;
  std::vector<torch::jit::Module> activations;  ///< Observers, in the order of ActivationRanges.
  std::vector<float> bounds;  ///< What is above goes to the next layer as this; infinity where nothing is.

  /// What the observers have seen so far. @return corrupt if it was not finite.
  [[nodiscard]] Result<std::vector<ActivationRange>> ranges() const;
  /// Gives the observers these instead of what they have seen.
  void preload(const std::vector<ActivationRange>& ranges, ActivationBits bits);
};

/// The names of a module's submodules that have a `forward`, itself ("") first.
std::vector<std::string> submodule_names(const torch::jit::Module& module);

/// Folds batch norm and inserts observers. Weights that will be quantized are replaced by what they are
/// in int8, so that LibTorch's rounding finds the very integers of our snapshots. May throw.
/// @param quantized  the submodules whose own operations go to int8, by name.
ObservedModule observe(const torch::jit::Module& module, const std::set<std::string>& quantized);

}  // namespace rivulet::int8
