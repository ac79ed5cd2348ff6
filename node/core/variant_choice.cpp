#include "node/core/variant_choice.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace rivulet::node {
namespace {

bool runs_in_int8(const VariantInfo& variant, bool has_int8) { return has_int8 && variant.int8_kernels; }

/// What the device takes for a sample; 0: unknown, as where a time in int8 says nothing of one in float.
double time_of(const VariantInfo& variant, const DeviceLimits& device) {
  const bool says_nothing = (variant.int8_kernels || variant.own_ranges) && !device.has_int8;
  return says_nothing ? 0 : variant.microseconds / device.speed;
}

}  // namespace

std::uint64_t memory_of(const VariantInfo& variant, const WeightBytes& weights, bool has_int8) {
  return (runs_in_int8(variant, has_int8) ? 2 * weights.int8 : weights.fp32) + variant.activation_bytes;
}

std::optional<std::size_t> best_variant(std::span<const VariantInfo> variants, const WeightBytes& weights,
                                        const DeviceLimits& device) {
  std::vector<std::size_t> fitting;
  const auto memory = [&](std::size_t i) { return memory_of(variants[i], weights, device.has_int8); };
  const auto time = [&](std::size_t i) { return time_of(variants[i], device); };
  for (std::size_t i = 0; i < variants.size(); ++i) {
    if (device.memory_max == 0 || memory(i) <= device.memory_max) fitting.push_back(i);
  }
  if (fitting.empty()) return std::nullopt;
  const auto too_slow = [&](std::size_t i) {
    return device.latency_max_us > 0 && time(i) > device.latency_max_us;
  };
  if (std::ranges::all_of(fitting, too_slow)) return *std::ranges::min_element(fitting, {}, time);
  std::erase_if(fitting, too_slow);
  double best = 0;
  for (const std::size_t i : fitting) best = std::max(best, variants[i].accuracy.value_or(0));
  std::erase_if(fitting, [&](std::size_t i) {
    return variants[i].accuracy && *variants[i].accuracy < best - accuracy_slack;
  });
  return *std::ranges::min_element(fitting, {},
                                   [&](std::size_t i) { return std::pair(memory(i), variants[i].bytes); });
}

}  // namespace rivulet::node
