#pragma once

#include <memory>
#include <span>
#include <vector>

#include "protocol/codec/codec.h"
#include "protocol/ids.h"
#include "protocol/result.h"

namespace rivulet {

/// One update of a sealed round, checked when it was accepted.
struct SealedUpdate {
  TaskId id;
  double weight = 0;  ///< Above 0; see capped_weights(). Rounded to float32 before it is used.
  double scale = 1;   ///< In [0, 1]; see norm_scale().
  const SegmentSource* delta = nullptr;  ///< Never null; outlives the aggregation.
};

/// Combines the sealed updates of one round. Pure: same updates, same bits, whatever arrived first
/// and however many threads share the coordinates. Thread-safe.
class AggregationRule {
 public:
  virtual ~AggregationRule() = default;
  /// @param updates  in the rising order of id; each delta has the same number of entries.
  /// @param range    coordinates to compute; begins and ends on segment borders or at the end.
  /// @param out      [range.end - range.begin] float32; all finite on success, unspecified on error.
  /// @return refused below minimum_updates(); what reading a delta failed with, naming the update.
  virtual Status aggregate(std::span<const SealedUpdate> updates, CoordinateRange range,
                           std::span<float> out) const = 0;
  [[nodiscard]] virtual std::size_t minimum_updates() const = 0;
};

/// Mean weighted by sample count: sum_k n_k * s_k * delta_k / sum_k n_k, summed in double in the order
/// of id and rounded to float32 once. The scale s_k brings a delta down to the norm bound.
/// Source: McMahan et al. 2017, arXiv:1602.05629, Algorithm 1.
/// @param statistics  ordered coordinates outside the norm bound, which no scale touches.
std::unique_ptr<AggregationRule> make_weighted_mean(std::vector<CoordinateRange> statistics = {});

/// The whole vector, its segments shared out over `threads` threads (at least 1, the caller's among
/// them). Holds `entries` floats and about 1 MiB a thread, however many updates there are.
/// @param updates  in any order.
/// @return conflict if two updates have one id; invalid for a weight or scale out of its interval or
///         a delta of another length, naming the update; else as AggregationRule::aggregate.
Result<std::vector<float>> aggregate_in_parallel(const AggregationRule& rule,
                                                 std::vector<SealedUpdate> updates, std::size_t entries,
                                                 std::size_t threads);

}  // namespace rivulet
