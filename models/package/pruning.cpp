#include "models/package/pruning.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <ranges>
#include <vector>

#include "protocol/assert.h"

namespace rivulet {
namespace {

/// Orders as the magnitudes do, and is an order also where those are not numbers.
std::uint32_t magnitude(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fff'ffffU; }

/// The places of a tensor's entries, the smallest magnitude first and of equal ones the first.
std::vector<std::size_t> by_magnitude(std::span<const float> entries) {
  std::vector<std::size_t> order(entries.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [entries](std::size_t i) { return magnitude(entries[i]); });
  return order;
}

/// Of each entry of a tensor, as prune() declares them.
void append_scores(std::vector<double>& scores, std::span<const float> entries) {
  const std::size_t begin = scores.size();
  scores.resize(begin + entries.size(), 0.0);
  double no_smaller = 0;
  for (const std::size_t i : std::views::reverse(by_magnitude(entries))) {
    const double square = static_cast<double>(entries[i]) * entries[i];
    const bool is_number = std::isfinite(square);
    if (is_number) no_smaller += square;
    if (entries[i] != 0.0F)
      scores[begin + i] = is_number ? square / no_smaller : std::numeric_limits<double>::infinity();
  }
}

template <typename Visit>
void visit_weights(const ParameterLayout& layout, std::span<float> weights, Visit visit) {
  for (const TensorSpec& tensor : layout.tensors) {
    const auto entries = weights.first(tensor.size());
    weights = weights.subspan(entries.size());
    if (tensor.is_weight()) visit(entries);
  }
}

}  // namespace

Status check(const PruningPlan& plan) {
  if (!(plan.sparsity >= 0.0 && plan.sparsity < 1.0)) {
    return fail(Errc::invalid, fmt::format("the sparsity is {}; it must be at least 0 and below 1, so that "
                                           "something is left",
                                           plan.sparsity));
  }
  if (plan.rounds == 0 || plan.rounds > pruning_rounds_max || plan.begin > pruning_rounds_max) {
    return fail(Errc::invalid, fmt::format("pruning begins after {} rounds and takes {}; 0 to {} and 1 to {} "
                                           "are allowed",
                                           plan.begin, plan.rounds, pruning_rounds_max, pruning_rounds_max));
  }
  return {};
}

double sparsity_at(const PruningPlan& plan, std::uint64_t step) {
  if (step <= plan.begin) return 0.0;
  const std::uint64_t done = step - plan.begin;
  if (done >= plan.rounds) return plan.sparsity;
  const double left = 1.0 - static_cast<double>(done) / plan.rounds;
  return plan.sparsity * (1.0 - left * left * left);
}

std::size_t part_of(double fraction, std::size_t count) {
  constexpr double rounding = 1e-12;  // Far more than what doubles are off, far less than one in any count.
  const double part = std::floor(fraction * static_cast<double>(count) * (1.0 + rounding));
  return std::min(static_cast<std::size_t>(part), count - std::min<std::size_t>(count, 1));
}

std::size_t prunable_entries(const ParameterLayout& layout) {
  std::size_t entries = 0;
  for (const TensorSpec& tensor : layout.tensors) entries += tensor.is_weight() ? tensor.size() : 0;
  return entries;
}

void prune(std::span<float> weights, const ParameterLayout& layout, double sparsity) {
  RIVULET_ASSERT(weights.size() == layout.size() && sparsity >= 0.0 && sparsity < 1.0);
  const std::size_t entries = prunable_entries(layout);
  const std::size_t pruned = part_of(sparsity, entries);
  if (pruned == 0) return;
  std::vector<double> scores;
  scores.reserve(entries);
  visit_weights(layout, weights, [&](std::span<float> tensor) { append_scores(scores, tensor); });
  std::vector<double> ordered = scores;
  const auto last = ordered.begin() + static_cast<std::ptrdiff_t>(pruned - 1);
  std::nth_element(ordered.begin(), last, ordered.end());
  const double threshold = *last;
  // nth_element leaves what is smaller in front of it, and maybe some that are equal.
  auto equal = static_cast<std::size_t>(std::count(ordered.begin(), std::next(last), threshold));
  auto score = scores.begin();
  visit_weights(layout, weights, [&](std::span<float> tensor) {
    for (float& x : tensor) {
      const double own = *score++;
      if (own > threshold || (own == threshold && equal == 0)) continue;
      if (own == threshold) --equal;
      x = 0.0F;
    }
  });
}

}  // namespace rivulet
