#include "models/dataset/partition.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

#include "protocol/assert.h"

namespace rivulet {
namespace {

constexpr int draws_max = 100;

std::vector<std::size_t> shuffled_indices(std::size_t count, Rng& rng) {
  std::vector<std::size_t> indices(count);
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  shuffle(std::span(indices), rng);
  return indices;
}

/// The begin of part `index` when `count` items are cut into `parts`, sizes differing by at most one.
std::size_t cut(std::size_t count, std::size_t parts, std::size_t index) {
  return index * (count / parts) + std::min(index, count % parts);
}

Status check_counts(std::size_t samples, std::size_t parts, const char* what) {
  if (parts == 0) return fail(Errc::invalid, fmt::format("a partition has at least one of its {}", what));
  if (samples >= parts) return {};
  return fail(Errc::invalid, fmt::format("{} samples are too few for {} {}", samples, parts, what));
}

void sort_each(Partition& partition) {
  for (auto& indices : partition) std::ranges::sort(indices);
}

double draw_normal(Rng& rng) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform_unit(rng)));  // 1 - u is never 0.
  return radius * std::cos(2.0 * std::numbers::pi * uniform_unit(rng));
}

Partition deal_classes(const std::map<std::int64_t, std::vector<std::size_t>>& by_class, std::size_t nodes,
                       double alpha, Rng& rng) {
  Partition partition(nodes);
  for (const auto& [label, members] : by_class) {
    std::vector<std::size_t> indices = members;
    shuffle(std::span(indices), rng);
    const std::vector<double> shares = draw_dirichlet(nodes, alpha, rng);
    // Rounding the running sum gives every sample away exactly once.
    double sum = 0.0;
    std::size_t begin = 0;
    for (std::size_t node = 0; node < nodes; ++node) {
      sum += shares[node];
      const double border = std::round(sum * static_cast<double>(indices.size()));
      const std::size_t end = node + 1 == nodes
                                  ? indices.size()
                                  : std::clamp(static_cast<std::size_t>(border), begin, indices.size());
      partition[node].insert(partition[node].end(), indices.begin() + static_cast<std::ptrdiff_t>(begin),
                             indices.begin() + static_cast<std::ptrdiff_t>(end));
      begin = end;
    }
  }
  return partition;
}

bool has_empty(const Partition& partition) {
  return std::ranges::any_of(partition, [](const auto& indices) { return indices.empty(); });
}

void fill_empty(Partition& partition, Rng& rng) {
  for (auto& indices : partition) {
    if (!indices.empty()) continue;
    auto& fullest = *std::ranges::max_element(partition, {}, [](const auto& other) { return other.size(); });
    const auto taken = fullest.begin() + static_cast<std::ptrdiff_t>(uniform_below(rng, fullest.size()));
    indices.push_back(*taken);
    fullest.erase(taken);
  }
}

}  // namespace

Result<Partition> partition_iid(std::size_t samples, std::size_t nodes, Rng& rng) {
  if (const Status counts = check_counts(samples, nodes, "nodes"); !counts)
    return std::unexpected(counts.error());
  const auto indices = shuffled_indices(samples, rng);
  Partition partition(nodes);
  for (std::size_t node = 0; node < nodes; ++node) {
    const auto begin = indices.begin();
    partition[node].assign(begin + static_cast<std::ptrdiff_t>(cut(samples, nodes, node)),
                           begin + static_cast<std::ptrdiff_t>(cut(samples, nodes, node + 1)));
  }
  sort_each(partition);
  return partition;
}

Result<Partition> partition_shards(std::span<const std::int64_t> labels, std::size_t nodes,
                                   std::size_t shards_per_node, Rng& rng) {
  const std::size_t samples = labels.size();
  if (shards_per_node > 0 && nodes > samples / shards_per_node) {
    return fail(Errc::invalid, fmt::format("{} samples are too few for {} nodes with {} shards each", samples,
                                           nodes, shards_per_node));
  }
  const std::size_t shards = nodes * shards_per_node;
  if (const Status counts = check_counts(samples, shards, "shards"); !counts)
    return std::unexpected(counts.error());
  // Shuffled first, so that which samples of a class share a shard is random.
  auto indices = shuffled_indices(samples, rng);
  std::ranges::stable_sort(indices, {}, [&](std::size_t index) { return labels[index]; });
  const auto deal = shuffled_indices(shards, rng);
  Partition partition(nodes);
  for (std::size_t i = 0; i < shards; ++i) {
    auto& node = partition[i / shards_per_node];
    const auto begin = indices.begin();
    node.insert(node.end(), begin + static_cast<std::ptrdiff_t>(cut(samples, shards, deal[i])),
                begin + static_cast<std::ptrdiff_t>(cut(samples, shards, deal[i] + 1)));
  }
  sort_each(partition);
  return partition;
}

Result<Partition> partition_dirichlet(std::span<const std::int64_t> labels, std::size_t nodes, double alpha,
                                      Rng& rng) {
  if (const Status counts = check_counts(labels.size(), nodes, "nodes"); !counts) {
    return std::unexpected(counts.error());
  }
  if (!(alpha >= dirichlet_alpha_min && alpha <= dirichlet_alpha_max)) {
    return fail(Errc::invalid, fmt::format("alpha is {}; it must be from {} to {}", alpha,
                                           dirichlet_alpha_min, dirichlet_alpha_max));
  }
  std::map<std::int64_t, std::vector<std::size_t>> by_class;
  for (std::size_t i = 0; i < labels.size(); ++i) by_class[labels[i]].push_back(i);
  Partition partition = deal_classes(by_class, nodes, alpha, rng);
  for (int draw = 1; draw < draws_max && has_empty(partition); ++draw) {
    partition = deal_classes(by_class, nodes, alpha, rng);
  }
  fill_empty(partition, rng);
  sort_each(partition);
  return partition;
}

Result<Partition> partition_natural(std::span<const std::uint32_t> groups) {
  if (groups.empty())
    return fail(Errc::invalid, "the samples have no groups: name the column that holds them");
  Partition partition;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    // Without gaps there are no more groups than samples; more would be room for a foreign number.
    if (groups[i] >= groups.size())
      return fail(Errc::invalid, fmt::format("group {} leaves a gap", groups[i]));
    if (groups[i] >= partition.size()) partition.resize(groups[i] + 1);
    partition[groups[i]].push_back(i);
  }
  if (has_empty(partition)) return fail(Errc::invalid, "the numbers of the groups leave a gap");
  return partition;
}

double draw_log_gamma(double shape, Rng& rng) {
  RIVULET_ASSERT(shape > 0.0);
  if (shape < 1.0) {
    const double boost = std::log(1.0 - uniform_unit(rng)) / shape;
    return draw_log_gamma(shape + 1.0, rng) + boost;
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  while (true) {
    const double x = draw_normal(rng);
    const double root = 1.0 + c * x;
    if (root <= 0.0) continue;
    const double v = root * root * root;
    const double u = 1.0 - uniform_unit(rng);
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return std::log(d * v);
  }
}

std::vector<double> draw_dirichlet(std::size_t count, double alpha, Rng& rng) {
  RIVULET_ASSERT(count > 0);
  std::vector<double> shares(count);
  for (double& share : shares) share = draw_log_gamma(alpha, rng);
  const double largest = *std::ranges::max_element(shares);
  double sum = 0.0;
  for (double& share : shares) {
    share = std::exp(share - largest);
    sum += share;
  }
  for (double& share : shares) share /= sum;
  return shares;
}

}  // namespace rivulet
