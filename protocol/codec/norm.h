#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

namespace rivulet {

/// The coordinates [begin, end) of a flat vector.
struct CoordinateRange {
  std::size_t begin = 0;
  std::size_t end = 0;

  bool operator==(const CoordinateRange&) const = default;
};

/// Whether `ranges` rise without overlap and lie within `entries`: what every function below expects
/// of its ranges. They come from our own layouts, so a wrong one aborts.
bool are_ordered(std::span<const CoordinateRange> ranges, std::size_t entries);

/// Calls `visit(CoordinateRange)` for the part of each of the ordered `ranges` that lies in `window`.
template <typename Visit>
void for_each_overlap(std::span<const CoordinateRange> ranges, CoordinateRange window, Visit visit) {
  auto range = std::ranges::upper_bound(ranges, window.begin, {}, &CoordinateRange::end);
  for (; range != ranges.end() && range->begin < window.end; ++range) {
    const CoordinateRange part{std::max(range->begin, window.begin), std::min(range->end, window.end)};
    if (part.begin < part.end) visit(part);
  }
}

/// A sum of squares in double whose bits depend on the values and their coordinates alone, not on
/// how the vector was cut into pieces nor on the instruction set: coordinate i always goes to lane
/// i mod 8, in rising order, and the lanes are added in one fixed order at the end.
class SumOfSquares {
 public:
  /// @param first the coordinate of values[0]; it does not fall from call to call.
  void add(std::size_t first, std::span<const float> values);
  /// Adds the squares of a[i] - b[i]; the spans have one length.
  void add_differences(std::size_t first, std::span<const float> a, std::span<const float> b);
  [[nodiscard]] double total() const;

 private:
  std::array<double, 8> lanes_{};
};

/// The L2 norm of `values` over `ranges`; not finite if an entry there is not finite.
double l2_norm(std::span<const float> values, std::span<const CoordinateRange> ranges);

/// The L2 distance of two vectors of one length over `ranges`, for a release's `max_distance`. Every
/// machine gets the same bits, so node and coordinator never disagree. Not finite if an entry there
/// is not finite: compare as `!(distance <= limit)`.
double l2_distance(std::span<const float> a, std::span<const float> b,
                   std::span<const CoordinateRange> ranges);

}  // namespace rivulet
