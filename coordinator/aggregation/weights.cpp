#include "coordinator/aggregation/weights.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "protocol/assert.h"

namespace rivulet {

std::vector<double> capped_weights(std::span<const std::uint64_t> sample_counts,
                                   std::uint64_t sample_count_max) {
  RIVULET_ASSERT(sample_count_max > 0);
  if (sample_counts.empty()) return {};
  std::vector<std::uint64_t> capped(sample_counts.begin(), sample_counts.end());
  for (std::uint64_t& count : capped) {
    RIVULET_ASSERT(count > 0);
    count = std::min(count, sample_count_max);
  }
  std::vector<std::uint64_t> sorted = capped;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>((sorted.size() - 1) / 2);
  std::ranges::nth_element(sorted, middle);

  const double most = static_cast<double>(weight_median_factor) * static_cast<double>(*middle);
  std::vector<double> weights;
  weights.reserve(capped.size());
  for (const std::uint64_t count : capped) weights.push_back(std::min(static_cast<double>(count), most));
  return weights;
}

Result<double> norm_scale(double norm, double bound) {
  RIVULET_ASSERT(bound > 0.0);
  if (!std::isfinite(norm) || norm > norm_refusal_factor * bound) {
    return fail(Errc::refused, fmt::format("the delta's norm {:.6g} is above {} times the bound {:.6g}", norm,
                                           norm_refusal_factor, bound));
  }
  return norm > bound ? bound / norm : 1.0;
}

}  // namespace rivulet
