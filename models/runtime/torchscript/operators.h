#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <torch/script.h>

#include "protocol/result.h"

namespace rivulet::torchscript {

/// The code of `forward` with all that it calls in its place, whatever this thread's execution mode is; calls
/// of what is not known beforehand remain.
std::shared_ptr<torch::jit::Graph> inlined_forward(const torch::jit::Module& module);

/// Whether a value of the type can be or hold an object of a class that is no module: a list of such, say.
bool can_hold_objects(const c10::Type& type, int depth = 0);

/// Whether everything that the module's code can do is computing on tensors: each operator in each function
/// and in each method of each class that came with the module is on a list, none has an object of a class, no
/// loop is endless, and `forward` takes one tensor and returns one. Nothing is run.
/// @return refused with the operator and, where the file tells, the line; invalid for another `forward`.
Status check_operators(const torch::jit::Module& module);

}  // namespace rivulet::torchscript
