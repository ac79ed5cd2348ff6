#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <torch/script.h>

#include <optional>
#include <span>
#include <vector>

#include "models/quantization/engine.h"

namespace rivulet::int8 {

/// An extracted module (extraction.h) whose convolutions and dense layers LibTorch packed anew.
struct Repacked {
  torch::jit::Module module;
  /// The weights as they were given to LibTorch, which keeps them beside the packed ones only to write them
  /// to a file. Once all layers have run, their memory may go: see free_storage().
  std::vector<at::Tensor> unpacked;
};

/// oneDNN prepares each packed layer for the shape that it meets first. All but these layers is shared with
/// the module.
/// @return nothing where extract() gives none. May throw.
std::optional<Repacked> pack_again(const torch::jit::Module& module, Int8Backend backend);

/// Frees the memory of tensors that nobody reads any more, though somebody holds them.
void free_storage(std::span<const at::Tensor> tensors);

}  // namespace rivulet::int8
