#pragma once

// Includes torch: only for the .cpp files of this folder.
#include <torch/script.h>

namespace rivulet::int8 {

/// Where this CPU has the instructions: lets our own kernels (vnni_kernels.h) compute what a module in static
/// int8 has of 1x1 and depthwise 3x3 convolutions and of dense layers, and quantize its input. The module
/// then runs in this process alone, and answers within a step of rounding as it did. May throw.
void use_own_kernels(torch::jit::Module& module);

}  // namespace rivulet::int8
