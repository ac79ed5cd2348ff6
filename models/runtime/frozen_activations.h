#pragma once

// Includes torch: only for the .cpp files of this folder.
#include <torch/script.h>

#include <memory>

namespace rivulet {

/// Writes in other operators what optimize_for_inference of LibTorch 1.13 answers wrongly: hardtanh (ReLU6),
/// clamp, hardswish and hardsigmoid behind a convolution whose channels are no multiple of 16, where it takes
/// padded memory for one without padding; and a clamp with one bound, on which it fails.
/// @param graph frozen.
void rewrite_activations(const std::shared_ptr<torch::jit::Graph>& graph);

}  // namespace rivulet
