#include "models/package/pruning.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "protocol/rng.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

using Floats = std::vector<float>;

/// Eight weights in two tensors, and five entries that are none.
const ParameterLayout mixed{{{"w", {2, 3}, TensorKind::parameter},
                             {"b", {2}, TensorKind::parameter},
                             {"mean", {1, 2}, TensorKind::statistic},
                             {"v", {1, 1, 2}, TensorKind::parameter},
                             {"t", {}, TensorKind::parameter}}};

Floats pruned(Floats weights, double sparsity, const ParameterLayout& layout = mixed) {
  prune(weights, layout, sparsity);
  return weights;
}

Error error_of(const PruningPlan& plan) {
  const Status status = check(plan);
  REQUIRE_FALSE(status.has_value());
  return status.error();
}

}  // namespace

TEST_CASE("the sparsity follows the cubic schedule of Zhu and Gupta", "[models][pruning]") {
  // 0.6 (1 - (1 - t / 20)^3): 1 - 0.95^3 = 0.142625, 1 - 0.75^3 = 0.578125, 1 - 0.5^3 = 0.875.
  const PruningPlan plan{.sparsity = 0.6, .begin = 0, .rounds = 20};
  CHECK(sparsity_at(plan, 0) == 0.0);
  CHECK(sparsity_at(plan, 1) == Approx(0.085575).epsilon(1e-14));
  CHECK(sparsity_at(plan, 5) == Approx(0.346875).epsilon(1e-14));
  CHECK(sparsity_at(plan, 10) == Approx(0.525).epsilon(1e-14));
  CHECK(sparsity_at(plan, 19) == Approx(0.599925).epsilon(1e-14));
  CHECK(sparsity_at(plan, 20) == 0.6);
  CHECK(sparsity_at(plan, 21) == 0.6);
  CHECK(sparsity_at(plan, std::numeric_limits<std::uint64_t>::max()) == 0.6);
}

TEST_CASE("pruning begins late, takes one round, or does not happen", "[models][pruning]") {
  const PruningPlan late{.sparsity = 0.8, .begin = 4, .rounds = 2};
  CHECK(sparsity_at(late, 4) == 0.0);
  CHECK(sparsity_at(late, 5) == Approx(0.7).epsilon(1e-14));  // 0.8 (1 - 0.5^3)
  CHECK(sparsity_at(late, 6) == 0.8);
  CHECK(sparsity_at({.sparsity = 0.5, .begin = 0, .rounds = 1}, 1) == 0.5);
  CHECK(sparsity_at({}, 1000) == 0.0);
}

TEST_CASE("a plan that leaves nothing, or has no end, is refused", "[models][pruning]") {
  CHECK(check(PruningPlan{}));
  CHECK(check({.sparsity = 0.999, .begin = pruning_rounds_max, .rounds = pruning_rounds_max}));
  for (const double sparsity : {1.0, -0.1, 2.0, std::nan("")}) {
    CHECK(error_of({.sparsity = sparsity}).detail.find("the sparsity is") == 0);
  }
  CHECK(error_of({.rounds = 0}).detail.find("takes 0") != std::string::npos);
  CHECK(error_of({.rounds = pruning_rounds_max + 1}).code == Errc::invalid);
  CHECK(error_of({.begin = pruning_rounds_max + 1}).code == Errc::invalid);
}

TEST_CASE("the smallest weights of all tensors go, and nothing else", "[models][pruning]") {
  CHECK(prunable_entries(mixed) == 8);
  // Scores of w by magnitude: 0.04/26.38, 0.09/26.34, 0.25/26.25, 1/26, 9/25, 1; of v: 0.0625/81.0625, 1.
  //                       w                           b           mean          v           t
  const Floats weights = {-0.5F, 3.0F,  0.2F, -4.0F,  1.0F, 0.3F, 0.1F,
                          -0.1F, 0.01F, 0.0F, -0.25F, 9.0F, 0.05F};
  CHECK(pruned(weights, 0.0) == weights);
  CHECK(pruned(weights, 0.12) == weights);  // floor(0.96) = 0
  // floor(0.5 * 8) = 4: 0.2, 0.25, 0.3 and 0.5.
  CHECK(pruned(weights, 0.5) == Floats{0, 3, 0, -4, 1, 0, 0.1F, -0.1F, 0.01F, 0, 0, 9, 0.05F});
  // floor(0.99 * 8) = 7: of the two scores of 1 the first goes.
  CHECK(pruned(weights, 0.99) == Floats{0, 0, 0, 0, 0, 0, 0.1F, -0.1F, 0.01F, 0, 0, 9, 0.05F});
  CHECK_FALSE(std::signbit(pruned(weights, 0.5)[0]));
}

TEST_CASE("a tensor of small numbers is not emptied for that, whatever its scale (LAMP)",
          "[models][pruning]") {
  const ParameterLayout two{{{"a", {1, 2}, TensorKind::parameter}, {"b", {1, 3}, TensorKind::parameter}}};
  // Scores of a: 1/5, 1; of b: 100/1400, 400/1300, 1. By magnitude alone all of a would go first.
  CHECK(pruned({1, 2, -10, 20, 30}, 0.2, two) == Floats{1, 2, 0, 20, 30});
  CHECK(pruned({1, 2, -10, 20, 30}, 0.4, two) == Floats{0, 2, 0, 20, 30});
  CHECK(pruned({1, 2, -10, 20, 30}, 0.6, two) == Floats{0, 2, 0, 0, 30});
  for (const float scale : {0x1p-60F, 0x1p-10F, 0x1p60F})
    CHECK(pruned({scale, 2 * scale, -10, 20, 30}, 0.4, two) == Floats{0, 2 * scale, 0, 20, 30});
}

TEST_CASE("a fraction in decimal is that of the count, though binary falls short of it",
          "[models][pruning]") {
  CHECK(part_of(0.29, 100) == 29);  // In doubles the product is 28.999...
  CHECK(part_of(0.57, 100) == 57);
  CHECK(part_of(0.57, 100'000'000) == 57'000'000);
  CHECK(part_of(0.2899, 100) == 28);
  CHECK(part_of(0.29, 99) == 28);
  CHECK(part_of(std::nextafter(1.0, 0.0), 100) == 99);
  CHECK(part_of(0.9, 1) == 0);
  CHECK(part_of(0.0, 100) == 0);
  CHECK(part_of(0.5, 0) == 0);
  const ParameterLayout row{{{"w", {1, 100}, TensorKind::parameter}}};
  const Floats left = pruned(Floats(100, 1.0F), 0.29, row);
  CHECK(std::ranges::count(left, 0.0F) == 29);
}

TEST_CASE("of equal weights the first ones go", "[models][pruning]") {
  const ParameterLayout row{{{"w", {1, 6}, TensorKind::parameter}}};
  CHECK(pruned({1, -1, 1, -1, 1, 0.5F}, 0.5, row) == Floats{0, 0, 1, -1, 1, 0});
  CHECK(pruned({0.0F, -0.0F, 2, 2, 2, 2}, 0.5, row) == Floats{0, 0, 0, 2, 2, 2});
  CHECK(pruned({2, 2, 2, 2, 2, 2}, 0.7, row) == Floats{0, 0, 0, 0, 2, 2});
}

TEST_CASE("numbers that are none are not taken for small", "[models][pruning]") {
  const ParameterLayout row{{{"w", {2, 2}, TensorKind::parameter}}};
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const Floats left =
      pruned({std::nanf(""), 1, -infinity, std::numeric_limits<float>::denorm_min()}, 0.5, row);
  CHECK(std::isnan(left[0]));
  CHECK(left[1] == 0.0F);
  CHECK(left[2] == -infinity);
  CHECK(left[3] == 0.0F);
}

TEST_CASE("a layout without weights has nothing to prune", "[models][pruning]") {
  const ParameterLayout vectors{{{"b", {3}, TensorKind::parameter}, {"s", {2, 2}, TensorKind::statistic}}};
  CHECK(prunable_entries(vectors) == 0);
  const Floats weights = {1, 2, 3, 4, 5, 6, 7};
  CHECK(pruned(weights, 0.9, vectors) == weights);
}

TEST_CASE("what pruning keeps is what sorting by magnitude and place keeps", "[models][pruning]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 40));
  CAPTURE(seed);
  Rng rng(seed);
  const auto rows = static_cast<std::int64_t>(1 + uniform_below(rng, 9));
  const auto columns = static_cast<std::int64_t>(1 + uniform_below(rng, 40));
  const ParameterLayout layout{{{"w", {rows, columns}, TensorKind::parameter}}};
  Floats weights(layout.size());
  // Few different magnitudes, so that many are equal.
  for (float& x : weights) x = static_cast<float>(uniform_below(rng, 9)) - 4.0F;
  const double sparsity = uniform_unit(rng);
  std::vector<std::size_t> order(weights.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(
      order, [&](std::size_t a, std::size_t b) { return std::fabs(weights[a]) < std::fabs(weights[b]); });
  Floats expected = weights;
  const double count = std::floor(sparsity * static_cast<double>(weights.size()));
  for (std::size_t k = 0; static_cast<double>(k) < count; ++k) expected[order[k]] = 0.0F;
  CHECK(pruned(weights, sparsity, layout) == expected);
}
