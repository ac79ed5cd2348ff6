#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "models/package/version.h"

namespace rivulet::node {

/// What a device can afford, and can do.
struct DeviceLimits {
  std::uint64_t memory_max = 0;  ///< Bytes that a model and its activations may take; 0: any.
  double latency_max_us = 0;     ///< For one sample; 0: any.
  double speed = 1.0;    ///< Of this device, in ratio to the machine that a manifest's times are from.
  bool has_int8 = true;  ///< Whether an int8 engine is there.

  bool operator==(const DeviceLimits&) const = default;
};

/// Variants whose accuracy is within this of the best one's count as equally good.
inline constexpr double accuracy_slack = 0.01;

/// What the weights of a model take when they are unpacked, which those of a pruned one are to serve.
struct WeightBytes {
  std::uint64_t fp32 = 0;
  std::uint64_t int8 = 0;
};

/// What a variant holds while it serves. In int8 its weights are packed twice, for single samples and for
/// batches; without an int8 engine they are float32.
std::uint64_t memory_of(const VariantInfo& variant, const WeightBytes& weights, bool has_int8);

/// The best variant that fits a device: of those within its memory the ones within its latency, of these the
/// ones as accurate as the best, of these the one that takes the least memory, of equals the smaller file. If
/// none is fast enough the fastest; a time or accuracy that is not known counts as good enough. Pure.
/// @return its index; nothing if none is within the memory.
std::optional<std::size_t> best_variant(std::span<const VariantInfo> variants, const WeightBytes& weights,
                                        const DeviceLimits& device);

}  // namespace rivulet::node
