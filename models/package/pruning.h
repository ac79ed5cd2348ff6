#pragma once

#include <cstdint>
#include <span>

#include "models/package/layout.h"
#include "protocol/result.h"

namespace rivulet {

/// How a release prunes: from version to version more of the smallest weights are 0. The fp32 master stays
/// dense and takes every step, so that a weight whose master has grown comes back.
/// Sources: Zhu, Gupta 2017, arXiv:1710.01878 (the schedule); Lin et al. 2020, arXiv:2006.07253 (feedback).
struct PruningPlan {
  double sparsity = 0.0;      ///< The fraction of the weights that is 0 in the end, in [0, 1); 0: no pruning.
  std::uint32_t begin = 0;    ///< The last step that prunes nothing.
  std::uint32_t rounds = 20;  ///< How many steps later all of `sparsity` is reached; at least 1.

  bool operator==(const PruningPlan&) const = default;
};

/// No release asks for more steps, before or while it prunes.
inline constexpr std::uint32_t pruning_rounds_max = 1'000'000;

/// @return invalid.
Status check(const PruningPlan& plan);

/// s_f (1 - (1 - (step - begin) / rounds)^3), 0 until `begin` and s_f from `begin + rounds` on.
/// @param step how many rounds' publications lie between a version and its release's w_0, itself included.
double sparsity_at(const PruningPlan& plan, std::uint64_t step);

/// floor(fraction * count), of the fraction as it is written in decimal: 0.29 of 100 are 29, which in binary
/// falls short by a rounding. @param fraction in [0, 1); at least one is left.
std::size_t part_of(double fraction, std::size_t count);

/// The number of entries that may be pruned: those of all tensors that are weights.
std::size_t prunable_entries(const ParameterLayout& layout);

/// Sets part_of(sparsity, prunable_entries) weights to +0: those of the smallest w^2 / sum of v^2 over all v
/// of their tensor that are no smaller (of equal w the first one counts as the smallest). So within a tensor
/// the smallest go, and no tensor loses more because its numbers are small: where a norm follows, scale says
/// nothing. Of equal scores those that come first go. Entries that are not numbers count as the largest. In
/// O(n log n). Source: Lee et al. 2021, arXiv:2010.07611 (LAMP).
/// @param weights [layout.size()]. @param sparsity in [0, 1).
void prune(std::span<float> weights, const ParameterLayout& layout, double sparsity);

}  // namespace rivulet
