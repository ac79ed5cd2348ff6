#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <torch/script.h>

#include "protocol/result.h"

namespace rivulet::torchscript {

/// Whether everything that the module's code can do is computing on tensors: each operator in each method of
/// each submodule and of each function that they call is on a list, no loop is endless, and `forward` takes
/// one tensor and returns one. Nothing is run.
/// @return refused with the operator and, where the file tells, the line; invalid for another `forward`.
Status check_operators(const torch::jit::Module& module);

}  // namespace rivulet::torchscript
