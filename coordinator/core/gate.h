#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "coordinator/core/config.h"
#include "coordinator/core/events.h"
#include "models/package/architecture.h"
#include "protocol/documents.h"

namespace rivulet::coordinator {

/// What one node found: candidate against parent on the same samples.
struct PairedCounts {
  std::uint64_t both_right = 0;
  std::uint64_t parent_only = 0;
  std::uint64_t candidate_only = 0;
  std::uint64_t both_wrong = 0;
  double parent_loss_sum = 0;
  double candidate_loss_sum = 0;

  bool operator==(const PairedCounts&) const = default;
  [[nodiscard]] std::uint64_t samples() const {
    return both_right + parent_only + candidate_only + both_wrong;
  }
};

/// No honest holdout is larger; keeps sums of counts from wrapping around.
inline constexpr std::uint64_t report_count_max = std::uint64_t{1} << 32;

/// The verdict of all nodes' reports together.
struct FederatedResult {
  std::size_t nodes = 0;
  double samples = 0;  ///< The sum of the weights: sample counts, capped at 4 times their median.
  /// sum_k w_k f_k / sum_k w_k: of a classification f_k is (parent_only_k - candidate_only_k) / n_k; of a
  /// model that answers values the part by which its loss grows, within [-1, 1], so that a node that lies has
  /// no more weight than it has in a classification.
  double fall = 0;
  double diverged = 0;  ///< The weight of nodes whose candidate loss is not finite; one alone can lie.
  Metrics candidate;    ///< Weighted alike; the loss without those.

  bool operator==(const FederatedResult&) const = default;
};
/// Pure. @param reports each of at least one sample; may be empty.
FederatedResult combine(std::span<const PairedCounts> reports, const ValidationConfig& config,
                        TaskKind task = TaskKind::classification);

enum class GateOutcome { publish, refuse, too_few };

struct GateDecision {
  GateOutcome outcome = GateOutcome::too_few;
  std::string why;                 ///< One line with the figures.
  std::optional<Metrics> metrics;  ///< Of the candidate: test split, else central holdout, else nodes.

  bool operator==(const GateDecision&) const = default;
};

struct GateEvidence {
  std::span<const PairedCounts> reports;
  bool has_holdout = false;  ///< The release has a central one.
  std::optional<Metrics> parent_central;
  std::optional<Metrics> candidate_central;
  std::optional<Metrics> candidate_test;
  TaskKind task = TaskKind::classification;
};
/// Whether the candidate may be published, on the evidence at the end of the gate. Pure: refused if the
/// accuracy falls by more than the tolerance on what the mode looks at (of a model that answers values: if
/// the loss grows by more than that part), or the loss is not finite (centrally, or for most nodes); too_few
/// if what it looks at is missing.
GateDecision decide(const GateEvidence& evidence, const ValidationConfig& config);

}  // namespace rivulet::coordinator
