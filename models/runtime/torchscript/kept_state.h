#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <torch/csrc/jit/ir/ir.h>

#include <memory>

#include "protocol/result.h"

namespace rivulet::torchscript {

/// Whether a network keeps nothing from one answer to the next: many threads ask it at once, and each sample
/// deserves the same answer. After eval() no attribute may be set; and a list or dictionary that is an
/// attribute, or that may be a part of one, is never changed.
/// @param forward inlined. @return refused, with the operator and its place.
Status check_kept_state(const std::shared_ptr<torch::jit::Graph>& forward);

}  // namespace rivulet::torchscript
