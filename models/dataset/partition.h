#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "protocol/result.h"
#include "protocol/rng.h"

namespace rivulet {

/// For each node the samples that it holds, ascending. Every sample is with exactly one node, and every
/// node has at least one. Pure: the same arguments and state of `rng` give the same partition.
using Partition = std::vector<std::vector<std::size_t>>;

/// Shuffled and dealt: the nodes' counts differ by at most one.
/// @return invalid if there are fewer samples than nodes, or no node.
Result<Partition> partition_iid(std::size_t samples, std::size_t nodes, Rng& rng);

/// Sorted by label, cut into nodes * shards_per_node shards whose sizes differ by at most one, and each
/// node gets shards_per_node random ones. Source: McMahan et al. 2017, arXiv:1602.05629, section 3.
/// @return invalid if there are fewer samples than shards.
Result<Partition> partition_shards(std::span<const std::int64_t> labels, std::size_t nodes,
                                   std::size_t shards_per_node, Rng& rng);

/// Beyond them the logarithms below leave the range of double, or nothing changes any more.
inline constexpr double dirichlet_alpha_min = 1e-6;
inline constexpr double dirichlet_alpha_max = 1e6;

/// Each class is dealt to the nodes in proportions from a symmetric Dirichlet distribution: small
/// `alpha` (0.1) gives nodes few classes and unequal counts, large ones approach iid. Source: Yurochkin
/// et al. 2019, arXiv:1905.12022, section 4; Hsu et al. 2019, arXiv:1909.06335, draw the proportions of
/// classes per node instead, with equal counts. A draw that leaves a node without a sample is repeated,
/// at most 100 times; then each empty node gets a random sample of the fullest.
/// @param alpha from dirichlet_alpha_min to dirichlet_alpha_max. @return invalid.
Result<Partition> partition_dirichlet(std::span<const std::int64_t> labels, std::size_t nodes, double alpha,
                                      Rng& rng);

/// A node for each group: its own samples. @param groups numbered from 0 without gaps. @return invalid.
Result<Partition> partition_natural(std::span<const std::uint32_t> groups);

/// The logarithm of a gamma variate of this shape and scale 1: of shapes near 0 the variate itself
/// underflows. Source: Marsaglia and Tsang 2000, "A simple method for generating gamma variables", with
/// normals by Box and Muller; shapes below 1 by their section 6. @param shape positive.
double draw_log_gamma(double shape, Rng& rng);

/// `count` (at least 1) proportions that add up to 1, from the symmetric Dirichlet distribution.
std::vector<double> draw_dirichlet(std::size_t count, double alpha, Rng& rng);

}  // namespace rivulet
