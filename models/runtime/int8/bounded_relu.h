#pragma once

// Includes torch: only for the .cpp files of this folder.
#include <torch/script.h>

#include <optional>

// ReLU6 and its like, x -> min(max(x, 0), c), as a ReLU that LibTorch fuses into the convolution before it:
// integers whose range ends at c saturate there by themselves (Jacob et al. 2018, arXiv:1712.05877, section
// 2.4). LibTorch's own passes would quantize the convolution's whole range and cut it off afterwards.
namespace rivulet::int8 {

/// The upper bound of a node that is such a function; nothing of another node.
std::optional<float> bounded_relu(const torch::jit::Node* node);

/// Puts a plain ReLU in front of each, which changes no result.
void split_bounded_relus(torch::jit::Block& block);

/// Takes those away that only cut off what int8 operators with a fused ReLU can't answer anyhow.
void remove_saturated_bounds(torch::jit::Block& block);

}  // namespace rivulet::int8
