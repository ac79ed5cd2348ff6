#include <spdlog/fmt/fmt.h>

#include "coordinator/core/phases.h"
#include "protocol/assert.h"

namespace rivulet::coordinator {
namespace {

/// The phase, if it waits for the answer to this question.
Aggregating* waiting_for(State& state, RoundNumber round, std::uint32_t attempt) {
  auto* phase = std::get_if<Aggregating>(&state.round.phase);
  const bool asked = phase != nullptr && phase->requested && state.round.plan.round == round &&
                     phase->sealed.attempt == attempt;
  return asked ? phase : nullptr;
}

}  // namespace

void enter_aggregating(Step& step, SealedSet sealed) {
  step.state.round.summary.state = "aggregating";
  step.state.round.phase = Aggregating{std::move(sealed), false};
  put_round(step);
}

bool advance(Step& step, Aggregating& phase) {
  if (phase.requested) return false;
  phase.requested = true;
  const State& state = step.state;
  const RoundPlan& plan = state.round.plan;
  const VersionRecord* parent = state.registry.find(plan.base);
  const auto release = state.registry.releases.find(plan.release);
  RIVULET_ASSERT(parent != nullptr && release != state.registry.releases.end());
  const double sparsity =
      sparsity_at(release->second.release.pruning, steps_after(state.registry, plan.base));
  step.emit(effect::Aggregate{plan.round, phase.sealed.attempt, plan.release, release->second.content,
                              plan.base, plan.base_hash, parent->master, parent->optimizer_state,
                              plan.aggregation, phase.sealed.entries, sparsity});
  return false;
}

void on(Step& step, const event::Aggregated& event) {
  State& state = step.state;
  Aggregating* phase = waiting_for(state, event.round, event.attempt);
  const CandidateBuilt& candidate = event.candidate;
  const std::vector<ContentId> contents{candidate.snapshot, candidate.master, candidate.optimizer_state};
  if (phase == nullptr) return step.erase_unreferenced(contents);  // Of a set that was sealed anew.
  const double limit = state.registry.releases.at(state.round.plan.release).release.limits.max_distance;
  if (!(candidate.distance <= limit)) {
    end_round(step, Ending::refused,
              fmt::format(
                  "the candidate is {:.6g} away from the release's first weights; the release allows {:.6g}",
                  candidate.distance, limit));
    return step.erase_unreferenced(contents);
  }
  SealedSet sealed = std::move(phase->sealed);
  enter_gating(step, std::move(sealed), candidate);
}

void on(Step& step, const event::AggregationFailed& event) {
  Aggregating* phase = waiting_for(step.state, event.round, event.attempt);
  if (phase == nullptr) return;
  if (event.error.code == Errc::storage_full) {
    phase->requested = false;  // Asked again once StorageState tells of room.
    step.state.storage_full = true;
    step.notice(effect::Level::warning, "aggregation_failed", name(event.error.code),
                {{"detail", event.error.detail}});
    return;
  }
  end_failed_work(step, "aggregation", event.error);
}

}  // namespace rivulet::coordinator
