#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

#include "models/dataset/partition.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

/// `each` samples of each class, in turn.
std::vector<std::int64_t> balanced(std::size_t classes, std::size_t each) {
  std::vector<std::int64_t> labels(classes * each);
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int64_t>(i % classes);
  return labels;
}

bool covers_exactly(const Partition& partition, std::size_t samples) {
  std::vector<int> seen(samples);
  for (const auto& indices : partition) {
    if (indices.empty() || !std::is_sorted(indices.begin(), indices.end())) return false;
    for (const std::size_t index : indices) {
      if (index >= samples || ++seen[index] > 1) return false;
    }
  }
  return std::accumulate(seen.begin(), seen.end(), std::size_t{0}) == samples;
}

/// Kolmogorov's distance between draws and a distribution function, times sqrt(n).
double distance(std::vector<double> draws, const std::function<double(double)>& distribution) {
  std::sort(draws.begin(), draws.end());
  const auto n = static_cast<double>(draws.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const double expected = distribution(draws[i]);
    largest =
        std::max({largest, expected - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - expected});
  }
  return largest * std::sqrt(n);
}

std::vector<double> gamma_draws(double shape, std::size_t count) {
  Rng rng(12);
  std::vector<double> draws(count);
  for (double& draw : draws) draw = std::exp(draw_log_gamma(shape, rng));
  return draws;
}

struct Moments {
  double mean = 0.0;
  double variance = 0.0;
};

Moments moments(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  Moments out;
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  for (const double value : values) out.variance += (value - out.mean) * (value - out.mean) / (n - 1.0);
  return out;
}

}  // namespace

TEST_CASE("every partition holds each sample once and no node is empty", "[models][partition]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 10));
  const auto nodes = GENERATE(values<std::size_t>({1, 7, 100, 300}));
  CAPTURE(seed, nodes);
  const auto labels = balanced(10, 61);
  const auto make = [&](int kind) {
    Rng rng(seed);
    switch (kind) {
      case 0: return partition_iid(labels.size(), nodes, rng);
      case 1: return partition_shards(labels, nodes, 2, rng);
      case 2: return partition_dirichlet(labels, nodes, 1.0, rng);
      default: return partition_dirichlet(labels, nodes, 0.01, rng);  // Few nodes would get any: the repair.
    }
  };
  for (int kind = 0; kind < 4; ++kind) {
    CAPTURE(kind);
    const auto partition = make(kind);
    REQUIRE(partition.has_value());
    REQUIRE(partition->size() == nodes);
    CHECK(covers_exactly(*partition, labels.size()));
    CHECK(make(kind) == partition);
  }
}

TEST_CASE("iid counts differ by at most one, and seeds differ", "[models][partition]") {
  Rng rng(3), other(4);
  const auto partition = *partition_iid(1003, 10, rng);
  std::multiset<std::size_t> sizes;
  for (const auto& indices : partition) sizes.insert(indices.size());
  CHECK(sizes == std::multiset<std::size_t>{100, 100, 100, 100, 100, 100, 100, 101, 101, 101});
  CHECK(*partition_iid(1003, 10, other) != partition);
}

TEST_CASE("two shards of one label each give a node at most two labels", "[models][partition]") {
  // 60 shards of 10 samples over classes of 60: no shard spans two classes.
  const auto labels = balanced(10, 60);
  Rng rng(5);
  const auto partition = *partition_shards(labels, 30, 2, rng);
  std::size_t nodes_with_two = 0;
  for (const auto& indices : partition) {
    CHECK(indices.size() == 20);
    std::set<std::int64_t> seen;
    for (const std::size_t index : indices) seen.insert(labels[index]);
    CHECK(seen.size() <= 2);
    nodes_with_two += seen.size() == 2 ? 1 : 0;
  }
  CHECK(nodes_with_two > 15);  // Expected: 30 * 54/59.
}

TEST_CASE("counts that cannot be dealt are refused", "[models][partition]") {
  Rng rng(1);
  const auto labels = balanced(2, 5);
  CHECK_FALSE(partition_iid(3, 4, rng));
  CHECK_FALSE(partition_iid(3, 0, rng));
  CHECK_FALSE(partition_shards(labels, 6, 2, rng));
  CHECK_FALSE(partition_shards(labels, 5, 0, rng));
  CHECK_FALSE(partition_shards(labels, std::size_t{1} << 63, 2, rng));
  CHECK_FALSE(partition_dirichlet(labels, 11, 1.0, rng));
  CHECK_FALSE(partition_dirichlet(labels, 2, 0.0, rng));
  CHECK_FALSE(partition_dirichlet(labels, 2, -1.0, rng));
  CHECK_FALSE(partition_dirichlet(labels, 2, std::nan(""), rng));
  CHECK_FALSE(partition_natural({}));
  CHECK_FALSE(partition_natural(std::vector<std::uint32_t>{0, 2, 2}));
  CHECK_FALSE(partition_natural(std::vector<std::uint32_t>{0, 4000000000U}));
}

TEST_CASE("natural clients keep their own samples", "[models][partition]") {
  const std::vector<std::uint32_t> groups = {0, 1, 0, 2, 1};
  CHECK(partition_natural(groups) == Partition{{0, 2}, {1, 4}, {3}});
}

TEST_CASE("gamma variates follow their distribution", "[models][partition]") {
  // 2.2 is exceeded once in 8000 samples (Kolmogorov's limit: 2 exp(-2 x^2)).
  constexpr std::size_t count = 20000;
  CHECK(distance(gamma_draws(1.0, count), [](double x) { return 1.0 - std::exp(-x); }) < 2.2);
  CHECK(distance(gamma_draws(0.5, count), [](double x) { return std::erf(std::sqrt(x)); }) < 2.2);
  CHECK(distance(gamma_draws(2.0, count), [](double x) { return 1.0 - std::exp(-x) * (1.0 + x); }) < 2.2);
  // Mean and variance are both the shape; their errors: sqrt(a/n), sqrt((2a^2 + 6a)/n).
  for (const double shape : {0.1, 0.3, 1.5, 7.0, 100.0}) {
    CAPTURE(shape);
    const Moments got = moments(gamma_draws(shape, count));
    CHECK(std::fabs(got.mean - shape) < 5.0 * std::sqrt(shape / count));
    CHECK(std::fabs(got.variance - shape) < 5.0 * std::sqrt((2.0 * shape * shape + 6.0 * shape) / count));
  }
}

TEST_CASE("Dirichlet proportions have the mean and variance of the formula", "[models][partition]") {
  // Mean 1/K, variance (1/K)(1 - 1/K) / (K alpha + 1).
  const auto alpha = GENERATE(values<double>({0.1, 0.3, 1.0, 10.0}));
  CAPTURE(alpha);
  constexpr std::size_t count = 10;
  Rng rng(8);
  std::vector<double> firsts;
  for (int i = 0; i < 20000; ++i) {
    const auto shares = draw_dirichlet(count, alpha, rng);
    REQUIRE(std::accumulate(shares.begin(), shares.end(), 0.0) == Approx(1.0));
    firsts.push_back(shares[static_cast<std::size_t>(i) % count]);
  }
  const double expected = 0.1 * 0.9 / (count * alpha + 1.0);
  const Moments got = moments(firsts);
  CHECK(std::fabs(got.mean - 0.1) < 5.0 * std::sqrt(expected / 20000.0));
  CHECK(got.variance == Approx(expected).epsilon(0.08));
}

TEST_CASE("the share of a class at a node varies as the Dirichlet distribution says", "[models][partition]") {
  // Five nodes, alpha 1, one class of 10,000: variance (1/5)(4/5) / (5 + 1).
  const std::vector<std::int64_t> labels(10000, 3);
  std::vector<double> shares;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Rng rng(seed);
    const auto partition = *partition_dirichlet(labels, 5, 1.0, rng);
    for (const auto& indices : partition) shares.push_back(static_cast<double>(indices.size()) / 10000.0);
  }
  const Moments got = moments(shares);
  CHECK(got.mean == Approx(0.2));
  CHECK(got.variance == Approx(0.16 / 6.0).epsilon(0.1));
}

TEST_CASE("the smallest and largest alpha neither overflow nor hang", "[models][partition]") {
  const auto labels = balanced(4, 50);
  for (const double alpha : {dirichlet_alpha_min, dirichlet_alpha_max}) {
    CAPTURE(alpha);
    Rng rng(2);
    const auto partition = partition_dirichlet(labels, 10, alpha, rng);
    REQUIRE(partition.has_value());
    CHECK(covers_exactly(*partition, labels.size()));
    std::size_t largest = 0;
    for (const auto& indices : *partition) largest = std::max(largest, indices.size());
    CHECK((alpha > 1.0 ? largest <= 24 : largest >= 40));
  }
}
