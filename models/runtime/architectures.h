#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/layout.h"
#include "protocol/result.h"

namespace rivulet {

/// The tensors of a built-in network, in the order of their use; the names are part of every release
/// and never change. "mlp": fc1.weight [hidden[0], input], fc1.bias [hidden[0]], fc2.weight, … to the
/// outputs. "mcmahan_cnn": conv1.weight [32, 1, 5, 5], conv1.bias, conv2.weight [64, 32, 5, 5],
/// conv2.bias, fc1.weight [512, 3136], fc1.bias, fc2.weight [outputs, 512], fc2.bias.
/// @return unsupported for an unknown kind, invalid for sizes that make no network, too_large above
/// 2^30 parameters.
Result<ParameterLayout> layout_of(const Architecture& architecture);

/// Starting weights [layout.size()]: uniform within ±1/sqrt(fan_in), for a weight and its bias alike
/// (He et al. 2015, arXiv:1502.01852, with the gain that PyTorch's Linear and Conv2d use). The same
/// seed gives the same bits on every machine; no state of LibTorch is read or changed.
/// @param layout  weights each followed by their bias, as layout_of gives it.
std::vector<float> initial_weights(const ParameterLayout& layout, std::uint64_t seed);

/// TorchScript source of `forward`, from [n, …] inputs to [n, outputs] (logits of a classification).
/// @param architecture one that layout_of accepts.
std::string forward_source(const Architecture& architecture);

}  // namespace rivulet
