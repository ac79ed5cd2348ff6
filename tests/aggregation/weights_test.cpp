#include "coordinator/aggregation/weights.h"

#include <cmath>
#include <limits>

#include "tests/catch.h"

using namespace rivulet;

namespace {

std::vector<double> capped(std::vector<std::uint64_t> counts, std::uint64_t most = 1'000'000) {
  return capped_weights(counts, most);
}

}  // namespace

TEST_CASE("honest sample counts are the weights", "[aggregation][weights]") {
  CHECK(capped({50, 60, 70}) == std::vector<double>{50, 60, 70});
  CHECK(capped({7}) == std::vector<double>{7});
  CHECK(capped({}).empty());
}

TEST_CASE("one lying node weighs at most four times the median", "[aggregation][weights]") {
  // Median 60: at 240 nothing happens, above it the cap holds.
  CHECK(capped({240, 50, 60}) == std::vector<double>{240, 50, 60});
  CHECK(capped({241, 50, 60}) == std::vector<double>{240, 50, 60});
  CHECK(capped({std::numeric_limits<std::uint64_t>::max(), 50, 60},
               std::numeric_limits<std::uint64_t>::max()) == std::vector<double>{240, 50, 60});
  // Of an even number the lower middle counts: 10, not (10 + 1000) / 2.
  CHECK(capped({1000, 10}) == std::vector<double>{40, 10});
  CHECK(capped({1000, 10, 20, 2000}) == std::vector<double>{80, 10, 20, 80});
}

TEST_CASE("the absolute cap holds before the median is taken", "[aggregation][weights]") {
  CHECK(capped({500, 900, 100}, 300) == std::vector<double>{300, 300, 100});
  CHECK(capped({5000, 5000, 1}, 100) == std::vector<double>{100, 100, 1});
}

TEST_CASE("a delta is scaled down to the norm bound and refused above four times it",
          "[aggregation][weights]") {
  CHECK(norm_scale(0.0, 2.0) == 1.0);
  CHECK(norm_scale(2.0, 2.0) == 1.0);
  CHECK(norm_scale(4.0, 2.0) == 0.5);
  CHECK(norm_scale(8.0, 2.0) == 0.25);
  CHECK(norm_scale(std::nextafter(8.0, 9.0), 2.0).error().code == Errc::refused);
  CHECK(norm_scale(std::nan(""), 2.0).error().code == Errc::refused);
  CHECK(norm_scale(std::numeric_limits<double>::infinity(), 2.0).error().code == Errc::refused);
}

TEST_CASE("an infinite bound scales nothing but still refuses a norm that is not finite",
          "[aggregation][weights]") {
  constexpr double none = std::numeric_limits<double>::infinity();
  CHECK(norm_scale(1e300, none) == 1.0);
  CHECK(norm_scale(none, none).error().code == Errc::refused);
}
