#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "protocol/result.h"

namespace rivulet {

/// What an update may weigh at most, in multiples of its cohort's median; a node that lies about its
/// sample count gains no more than this.
inline constexpr std::uint64_t weight_median_factor = 4;
/// An update with a norm above this multiple of the bound is refused; below it is scaled down.
inline constexpr double norm_refusal_factor = 4.0;

/// The weight of each update in the mean: its sample count, capped at `sample_count_max` and then at
/// 4 times the median of the capped counts. Of an even number of counts the median is the lower of
/// the two in the middle: in a cohort of two, the smaller count bounds the larger one.
/// @param sample_counts  of the sealed updates, each above 0. @return in the same order.
std::vector<double> capped_weights(std::span<const std::uint64_t> sample_counts,
                                   std::uint64_t sample_count_max);

/// The factor that brings a decoded delta down to the task's norm bound, min(1, bound / norm).
/// Rounding can lift a clipped delta slightly above the bound; more than 4 times is no accident.
/// @param norm   L2 over the parameters; see inspect().
/// @param bound  above 0; infinity for none.
/// @return refused if the norm is above 4 times the bound or not finite.
Result<double> norm_scale(double norm, double bound);

}  // namespace rivulet
