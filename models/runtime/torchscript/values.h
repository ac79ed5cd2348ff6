#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <torch/script.h>

#include "protocol/result.h"

namespace rivulet::torchscript {

/// Whether every value that the file brought is of the type that its code declares, and every tensor lies in
/// memory that is there: attributes and constants of modules, constants and defaults of functions. LibTorch's
/// loader believes the file in both, and its interpreter takes an attribute from the place that the declared
/// class has for it.
/// @return corrupt; refused for what can hold an object of a class that is no module; too_large; invalid for
/// tensors that are sparse, quantized or not on the CPU.
Status check_values(const torch::jit::Module& module);

}  // namespace rivulet::torchscript
