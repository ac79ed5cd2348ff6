#include "coordinator/core/gate.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "coordinator/aggregation/weights.h"
#include "protocol/assert.h"

namespace rivulet::coordinator {
namespace {

/// By which part a loss grows, within [-1, 1].
double growth_of(double parent, double candidate) {
  if (!std::isfinite(candidate)) return 1;
  if (parent <= 0) return candidate > 0 ? 1 : 0;
  return std::clamp(candidate / parent - 1, -1.0, 1.0);
}

double fall_of(const PairedCounts& report, TaskKind task) {
  if (task != TaskKind::classification) return growth_of(report.parent_loss_sum, report.candidate_loss_sum);
  return (static_cast<double>(report.parent_only) - static_cast<double>(report.candidate_only)) /
         static_cast<double>(report.samples());
}

/// Refuses on the central holdout, or says that it is missing; nothing if the candidate holds its own.
std::optional<GateDecision> fault_on_central(const GateEvidence& evidence, double tolerance) {
  if (!evidence.parent_central || !evidence.candidate_central) {
    return GateDecision{GateOutcome::too_few, "the central holdout was not scored", {}};
  }
  const Metrics& parent = *evidence.parent_central;
  const Metrics& candidate = *evidence.candidate_central;
  if (!std::isfinite(candidate.loss)) {
    return GateDecision{GateOutcome::refuse, "its loss on the central holdout is not finite", {}};
  }
  if (evidence.task != TaskKind::classification) {
    if (growth_of(parent.loss, candidate.loss) <= tolerance) return std::nullopt;
    return GateDecision{GateOutcome::refuse,
                        fmt::format("the loss on the central holdout grows from {:.4g} to {:.4g}, by more "
                                    "than {:.4f} of it",
                                    parent.loss, candidate.loss, tolerance),
                        {}};
  }
  // Not "fall > tolerance": a fall that is not a number does not pass.
  if (!(parent.accuracy - candidate.accuracy <= tolerance)) {
    return GateDecision{
        GateOutcome::refuse,
        fmt::format("accuracy on the central holdout falls from {:.4f} to {:.4f}, by more than {:.4f}",
                    parent.accuracy, candidate.accuracy, tolerance),
        {}};
  }
  return std::nullopt;
}

std::optional<GateDecision> fault_on_nodes(const FederatedResult& result, const ValidationConfig& config,
                                           TaskKind task) {
  if (result.nodes < config.evaluators_min || result.samples < static_cast<double>(config.holdout_min)) {
    return GateDecision{GateOutcome::too_few,
                        fmt::format("{} nodes reported on {:.0f} samples; {} nodes and {} samples are needed",
                                    result.nodes, result.samples, config.evaluators_min, config.holdout_min),
                        {}};
  }
  if (result.diverged > result.samples / 2) {
    return GateDecision{GateOutcome::refuse, "its loss on most nodes' holdouts is not finite", {}};
  }
  if (!(result.fall <= config.tolerance)) {
    const bool classes = task == TaskKind::classification;
    return GateDecision{
        GateOutcome::refuse,
        fmt::format("{} on the holdouts of {} nodes {} by {:.4f}{}, by more than {:.4f}",
                    classes ? "accuracy" : "the loss", result.nodes, classes ? "falls" : "grows", result.fall,
                    classes ? "" : " of it", config.tolerance),
        {}};
  }
  return std::nullopt;
}

}  // namespace

FederatedResult combine(std::span<const PairedCounts> reports, const ValidationConfig& config,
                        TaskKind task) {
  FederatedResult result;
  result.nodes = reports.size();
  if (reports.empty()) return result;
  std::vector<std::uint64_t> counts;
  for (const PairedCounts& report : reports) {
    RIVULET_ASSERT(report.samples() > 0);
    counts.push_back(report.samples());
  }
  const std::vector<double> weights = capped_weights(counts, config.holdout_max);
  double fall = 0;
  double accuracy = 0;
  double loss = 0;
  double loss_weight = 0;
  for (std::size_t k = 0; k < reports.size(); ++k) {
    const PairedCounts& report = reports[k];
    const auto n = static_cast<double>(report.samples());
    result.samples += weights[k];
    fall += weights[k] * fall_of(report, task);
    accuracy += weights[k] * static_cast<double>(report.both_right + report.candidate_only) / n;
    if (std::isfinite(report.candidate_loss_sum)) {
      loss += weights[k] * report.candidate_loss_sum / n;
      loss_weight += weights[k];
    } else {
      result.diverged += weights[k];
    }
  }
  result.fall = fall / result.samples;
  result.candidate = Metrics{accuracy / result.samples, loss_weight > 0 ? loss / loss_weight : NAN,
                             static_cast<std::uint64_t>(std::llround(result.samples))};
  return result;
}

GateDecision decide(const GateEvidence& evidence, const ValidationConfig& config) {
  const bool nodes = config.mode == ValidationMode::federated || config.mode == ValidationMode::both;
  const bool central =
      config.mode == ValidationMode::central || (config.mode == ValidationMode::both && evidence.has_holdout);
  const FederatedResult result = combine(evidence.reports, config, evidence.task);

  GateDecision decision{GateOutcome::publish, "", {}};
  if (evidence.candidate_test) {
    decision.metrics = evidence.candidate_test;
  } else if (evidence.candidate_central) {
    decision.metrics = evidence.candidate_central;
  } else if (result.nodes > 0) {
    decision.metrics = result.candidate;
  }
  std::optional<GateDecision> on_central;
  std::optional<GateDecision> on_nodes;
  if (central) on_central = fault_on_central(evidence, config.tolerance);
  if (nodes) on_nodes = fault_on_nodes(result, config, evidence.task);
  // A fall that was seen says more than evidence that is missing.
  for (const GateOutcome outcome : {GateOutcome::refuse, GateOutcome::too_few}) {
    for (const auto& fault : {on_central, on_nodes}) {
      if (fault && fault->outcome == outcome) {
        decision.outcome = outcome;
        decision.why = fault->why;
        return decision;
      }
    }
  }
  const bool classes = evidence.task == TaskKind::classification;
  decision.why =
      nodes ? fmt::format("{} nodes on {:.0f} samples: {} changes by {:+.4f}", result.nodes, result.samples,
                          classes ? "accuracy" : "the loss", classes ? -result.fall : result.fall)
            : std::string(central ? "it holds its own on the central holdout" : "nothing is asked of it");
  return decision;
}

}  // namespace rivulet::coordinator
