#include "protocol/codec/norm.h"

#include <bit>
#include <cmath>
#include <limits>

#include "protocol/codec/codec.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

std::vector<float> random_vector(std::size_t entries, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(entries);
  for (float& x : values) x = static_cast<float>(uniform_unit(rng) - 0.5);
  return values;
}

bool same_bits(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

}  // namespace

TEST_CASE("norms and distances of small vectors are those of Pythagoras", "[codec][norm]") {
  const std::vector<float> a{3.0F, 100.0F, 4.0F, -200.0F};
  const std::vector<float> b{0.0F, 7.0F, 0.0F, 9.0F};
  const CoordinateRange parameters[] = {{0, 1}, {2, 3}};
  CHECK(l2_norm(a, parameters) == 5.0);
  CHECK(l2_distance(a, b, parameters) == 5.0);
  const CoordinateRange all[] = {{0, 4}};
  CHECK(l2_norm(std::vector<float>{1.0F, 1.0F, 1.0F, -1.0F}, all) == 2.0);
  CHECK(l2_norm(a, {}) == 0.0);
  CHECK(l2_distance(a, a, all) == 0.0);
}

TEST_CASE("a norm agrees with a sum in long double and does not overflow as float would", "[codec][norm]") {
  const auto values = random_vector(100'001, 1);
  const auto others = random_vector(100'001, 2);
  const CoordinateRange ranges[] = {{3, 11}, {11, 70'000}, {70'001, 100'001}};
  long double norm = 0;
  long double distance = 0;
  for (std::size_t i = 3; i < values.size(); ++i) {
    if (i == 70'000) continue;
    norm += static_cast<long double>(values[i]) * static_cast<long double>(values[i]);
    const long double d = static_cast<long double>(values[i]) - static_cast<long double>(others[i]);
    distance += d * d;
  }
  CHECK(l2_norm(values, ranges) == Approx(static_cast<double>(std::sqrt(norm))).epsilon(1e-14));
  CHECK(l2_distance(values, others, ranges) ==
        Approx(static_cast<double>(std::sqrt(distance))).epsilon(1e-14));
  const CoordinateRange one[] = {{0, 1}};
  CHECK(l2_norm(std::vector<float>{3e38F}, one) == static_cast<double>(3e38F));
  CHECK(std::isnan(l2_norm(std::vector<float>{std::numeric_limits<float>::quiet_NaN()}, one)));
}

TEST_CASE("the bits of a sum of squares do not depend on how the vector is cut", "[codec][norm]") {
  const auto values = random_vector(3000, 3);
  const auto others = random_vector(3000, 4);
  SumOfSquares whole;
  whole.add(0, values);
  SumOfSquares whole_difference;
  whole_difference.add_differences(0, values, others);
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    SumOfSquares pieces;
    SumOfSquares difference;
    for (std::size_t at = 0; at < values.size();) {
      const std::size_t size = std::min<std::size_t>(values.size() - at, uniform_below(rng, 40));
      pieces.add(at, std::span(values).subspan(at, size));
      difference.add_differences(at, std::span(values).subspan(at, size),
                                 std::span(others).subspan(at, size));
      at += size;
    }
    CAPTURE(seed);
    REQUIRE(same_bits(pieces.total(), whole.total()));
    REQUIRE(same_bits(difference.total(), whole_difference.total()));
  }
}

TEST_CASE("inspect measures the parameters of an encoded delta and not its statistics", "[codec][norm]") {
  const auto codec = GENERATE(Codec::fp32, Codec::int8);
  auto delta = random_vector(2 * segment_entries + 50, 6);
  Rng rng(1);
  const Bytes wire = encode(codec, delta, rng).value();
  const EncodedDelta view = EncodedDelta::parse(codec, wire, delta.size()).value();
  // Ranges that cross segment borders, end on one, and leave out the rest.
  const std::vector<CoordinateRange> ranges{{5, 100}, {60'000, 65'536}, {65'536, 65'540}, {70'001, 131'090}};
  const double norm = inspect(view, ranges).value().norm;
  CHECK(same_bits(norm, l2_norm(view.decode().value(), ranges)));
  CHECK(norm == Approx(l2_norm(delta, ranges)).epsilon(1e-3));
  CHECK(inspect(view, {}).value().norm == 0.0);
}

TEST_CASE("ranges are ordered when they rise without overlap within the vector", "[codec][norm]") {
  using Ranges = std::vector<CoordinateRange>;
  CHECK(are_ordered(Ranges{}, 0));
  CHECK(are_ordered(Ranges{{0, 3}, {3, 3}, {5, 9}}, 9));
  CHECK_FALSE(are_ordered(Ranges{{0, 3}, {2, 4}}, 9));
  CHECK_FALSE(are_ordered(Ranges{{4, 3}}, 9));
  CHECK_FALSE(are_ordered(Ranges{{0, 10}}, 9));
}
