#pragma once

#include <cstdint>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/layout.h"
#include "models/runtime/architectures/network.h"
#include "protocol/result.h"

namespace rivulet {

/// A built-in network: its layers and its source. What each kind has, and where it comes from, stands in
/// models/runtime/architectures/families.h.
/// @return unsupported for an unknown kind, invalid with the specification's key for sizes that make no
/// network, too_large above 2^30 parameters or numbers a sample.
Result<Network> network_of(const Architecture& architecture);

/// The tensors of a built-in network, in the order of their use: "fc1.weight", "fc1.bias", … The names
/// are part of every release and never change. @return as network_of.
Result<ParameterLayout> layout_of(const Architecture& architecture);

/// Starting weights [layout.size()], by the tensors' names and shapes:
///   a layer's weight and bias   uniform within ±1/sqrt(fan_in) (He et al. 2015, arXiv:1502.01852, with
///                               the gain that PyTorch's Linear and Conv use)
///   a recurrent layer's (…_l0)  uniform within ±1/sqrt(hidden), as PyTorch's GRU
///   a normalization's           scales 1 and shifts 0; running means 0 and variances 1
/// The same seed gives the same bits on every machine; no state of LibTorch is read or changed.
/// @param layout  as layout_of gives it: a bias directly follows its weight.
std::vector<float> initial_weights(const ParameterLayout& layout, std::uint64_t seed);

}  // namespace rivulet
