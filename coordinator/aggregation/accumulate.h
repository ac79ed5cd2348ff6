#pragma once

#include <span>

namespace rivulet {

/// sums[i] += factor * values[i], with the vector instructions that this machine has. The product of
/// two float32 is exact in double, so a fused multiply-add and a multiplication followed by an
/// addition round alike: the bits are those of std::fma on every instruction set.
/// @param sums [values.size()]
void accumulate(std::span<double> sums, std::span<const float> values, float factor);

}  // namespace rivulet
