#include "protocol/codec/norm.h"

#include <cmath>

#include "protocol/assert.h"

namespace rivulet {
namespace {

constexpr std::size_t lane_count = 8;

// `value(i)` is entry i as a double. The square of a float is exact in double, and -ffp-contract=off
// keeps the squares of differences unfused, so that all instruction sets agree.
template <typename Value>
void add_squares(std::array<double, lane_count>& lanes, std::size_t first, std::size_t size, Value value) {
  std::size_t i = 0;
  const auto add_one = [&] {
    const double x = value(i);
    lanes[(first + i) % lane_count] += x * x;
    ++i;
  };
  while (i < size && (first + i) % lane_count != 0) add_one();
  std::array<double, lane_count> sums = lanes;
  for (; i + lane_count <= size; i += lane_count) {
    for (std::size_t lane = 0; lane < lane_count; ++lane) {
      const double x = value(i + lane);
      sums[lane] += x * x;
    }
  }
  lanes = sums;
  while (i < size) add_one();
}

}  // namespace

bool are_ordered(std::span<const CoordinateRange> ranges, std::size_t entries) {
  std::size_t last = 0;
  for (const CoordinateRange& range : ranges) {
    if (range.begin < last || range.end < range.begin) return false;
    last = range.end;
  }
  return last <= entries;
}

void SumOfSquares::add(std::size_t first, std::span<const float> values) {
  add_squares(lanes_, first, values.size(),
              [data = values.data()](std::size_t i) { return static_cast<double>(data[i]); });
}

void SumOfSquares::add_differences(std::size_t first, std::span<const float> a, std::span<const float> b) {
  RIVULET_ASSERT(a.size() == b.size());
  add_squares(lanes_, first, a.size(), [x = a.data(), y = b.data()](std::size_t i) {
    return static_cast<double>(x[i]) - static_cast<double>(y[i]);
  });
}

double SumOfSquares::total() const {
  const auto& l = lanes_;
  return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

double l2_norm(std::span<const float> values, std::span<const CoordinateRange> ranges) {
  RIVULET_ASSERT(are_ordered(ranges, values.size()));
  SumOfSquares sum;
  for (const auto [begin, end] : ranges) sum.add(begin, values.subspan(begin, end - begin));
  return std::sqrt(sum.total());
}

double l2_distance(std::span<const float> a, std::span<const float> b,
                   std::span<const CoordinateRange> ranges) {
  RIVULET_ASSERT(a.size() == b.size() && are_ordered(ranges, a.size()));
  SumOfSquares sum;
  for (const auto [begin, end] : ranges) {
    sum.add_differences(begin, a.subspan(begin, end - begin), b.subspan(begin, end - begin));
  }
  return std::sqrt(sum.total());
}

}  // namespace rivulet
