#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/result.h"

namespace rivulet {

/// What one activation of a network was seen to take, widened to hold 0, so that 0 (padding, ReLU) is
/// exact in int8.
struct ActivationRange {
  float low = 0.0F;   ///< At most 0.
  float high = 0.0F;  ///< At least 0.

  bool operator==(const ActivationRange&) const = default;
};

/// What calibration finds and a version publishes: with it and the weights, who holds the network builds
/// the same static int8 module without any data. Says nothing about a CPU: 7 or 8 bits is the builder's
/// choice.
struct ActivationRanges {
  /// One for each quantized activation, in the order in which `forward` first computes them; where a
  /// module calls another, the callee's come before the call's own. The order hangs on the graph alone.
  std::vector<ActivationRange> values;
  /// Submodules ("blocks.3.norm"; "" is the network itself without its children) whose own operations
  /// stay in float, because LibTorch refuses them in int8.
  std::vector<std::string> left_in_float;

  bool operator==(const ActivationRanges&) const = default;
};

/// Bounds what a foreign manifest can claim.
inline constexpr std::size_t activation_ranges_max = 1 << 16;

/// Whether a module can be built with them: at most activation_ranges_max, each finite and
/// low <= 0 <= high; submodules named once. @return invalid with the place.
Status check(const ActivationRanges& ranges);

/// How a range becomes unsigned integers: q = round(x / scale) + zero_point, in [0, steps].
struct ActivationStep {
  float scale = 1.0F;
  std::int32_t zero_point = 0;

  bool operator==(const ActivationStep&) const = default;
};

/// 255 uses all 8 bits. CPUs without VNNI add products of 8 bits by 8 bits in 16 bits, which saturate:
/// there 127 keeps the sums exact.
enum class ActivationBits : std::uint8_t { seven = 7, eight = 8 };

/// Affine, per tensor (Jacob et al. 2018, arXiv:1712.05877, section 2.1). A range of 0 has scale 1.
/// @param range  one that check() accepts.
ActivationStep step_of(const ActivationRange& range, ActivationBits bits);

}  // namespace rivulet
