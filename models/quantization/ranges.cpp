#include "models/quantization/ranges.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace rivulet {
namespace {

// The reciprocal of a smaller one is no float32.
constexpr float scale_min = 1e-37F;

}  // namespace

Status check(const ActivationRanges& ranges) {
  if (ranges.values.size() > activation_ranges_max)
    return fail(Errc::invalid, fmt::format("{} activation ranges are more than the {} that any model has",
                                           ranges.values.size(), activation_ranges_max));
  for (std::size_t i = 0; i < ranges.values.size(); ++i) {
    const auto [low, high] = ranges.values[i];
    if (!std::isfinite(low) || !std::isfinite(high) || !std::isfinite(high - low))
      return fail(Errc::invalid,
                  fmt::format("activation range {} is [{}, {}]; it must be finite", i, low, high));
    if (!(low <= 0 && high >= 0))
      return fail(Errc::invalid,
                  fmt::format("activation range {} is [{}, {}]; it must rise and hold 0", i, low, high));
  }
  std::set<std::string> names;
  for (const std::string& name : ranges.left_in_float)
    if (!names.insert(name).second)
      return fail(Errc::invalid, fmt::format("the module '{}' is left in float twice", name));
  return {};
}

ActivationStep step_of(const ActivationRange& range, ActivationBits bits) {
  if (range.low == range.high) return {};
  const float steps = bits == ActivationBits::seven ? 127.0F : 255.0F;
  const float scale = std::max((range.high - range.low) / steps, scale_min);
  const float zero = std::clamp(std::nearbyint(-range.low / scale), 0.0F, steps);
  return {scale, static_cast<std::int32_t>(zero)};
}

}  // namespace rivulet
