#include "coordinator/core/coordinator.h"

#include <algorithm>
#include <set>

#include "coordinator/core/handlers.h"
#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"
#include "coordinator/core/step.h"

namespace rivulet::coordinator {
namespace {

struct NextDeadline {
  const State& state;

  std::optional<MonotonicTime> operator()(const Idle&) const { return std::nullopt; }
  std::optional<MonotonicTime> operator()(const Selecting& phase) const {
    return std::min(phase.patience.at, phase.deadline.at);
  }
  std::optional<MonotonicTime> operator()(const Training& phase) const { return phase.deadline.at; }
  std::optional<MonotonicTime> operator()(const Aggregating&) const { return std::nullopt; }
  std::optional<MonotonicTime> operator()(const Gating& phase) const { return phase.deadline.at; }
  std::optional<MonotonicTime> operator()(const Publishing& phase) const {
    if (phase.asked || state.registry.pending) return std::nullopt;
    return phase.not_before.at;
  }
  std::optional<MonotonicTime> operator()(const Failed& phase) const { return phase.until.at; }
};

using Visit = std::function<void(const ContentId&)>;

void visit_sealed(const SealedSet& sealed, const Visit& visit) {
  for (const UpdateRecord& update : sealed.updates) visit(update.content);
}

void visit_candidate(const CandidateBuilt& candidate, const Visit& visit) {
  visit(candidate.snapshot);
  visit(candidate.master);
  visit(candidate.optimizer_state);
}

/// Whether the effect tells of nothing that has yet to become durable.
bool promises_nothing(const Effect& effect) {
  if (const auto* send = std::get_if<effect::Send>(&effect))
    return std::holds_alternative<message::Backoff>(send->message);
  return std::holds_alternative<effect::Notice>(effect) ||
         std::holds_alternative<effect::SendWelcome>(effect) ||
         std::holds_alternative<effect::Close>(effect) || std::holds_alternative<effect::DropFetch>(effect);
}

}  // namespace

Transition step(State& state, const Event& event, Now now) {
  Step step{state, now, {}};
  std::visit([&](const auto& specific) { on(step, specific); }, event);
  advance_round(step);
  return std::move(step.out);
}

bool may_overtake(const State& state, const Transition& transition) {
  if (!transition.writes.empty() || !std::ranges::all_of(transition.effects, promises_nothing)) return false;
  return state.storage_full || std::ranges::any_of(transition.effects, [](const Effect& effect) {
           return std::holds_alternative<effect::SendWelcome>(effect);
         });
}

Transition resume(State& state, Now now) {
  Step step{state, now, {}};
  step.notice(effect::Level::info, "recovered", "",
              {{"nodes", std::to_string(state.fleet.nodes.size())},
               {"head", std::to_string(state.registry.head)},
               {"round", std::to_string(state.schedule.last_started)}});
  advance_round(step);
  return std::move(step.out);
}

std::optional<MonotonicTime> next_deadline(const State& state) {
  // While the store takes no writes nothing advances; StorageState tells when it does again.
  if (state.storage_full || state.storage_failed || state.shutting_down) return std::nullopt;
  return std::visit(NextDeadline{state}, state.round.phase);
}

void visit_contents(const State& state, const std::function<void(const ContentId&)>& visit) {
  visit_contents(state.registry, visit);
  const RoundPhase& phase = state.round.phase;
  if (const auto* training = std::get_if<Training>(&phase)) {
    for (const auto& [task, update] : training->accepted) visit(update.content);
    for (const auto& [task, incoming] : training->incoming) visit(incoming.header.content);
  } else if (const auto* aggregating = std::get_if<Aggregating>(&phase)) {
    visit_sealed(aggregating->sealed, visit);
  } else if (const auto* gating = std::get_if<Gating>(&phase)) {
    visit_sealed(gating->sealed, visit);
    visit_candidate(gating->candidate, visit);
  } else if (const auto* publishing = std::get_if<Publishing>(&phase)) {
    visit_sealed(publishing->sealed, visit);
    visit_candidate(publishing->candidate, visit);
  }
}

std::vector<ContentId> referenced_content(const State& state) {
  std::set<ContentId> contents;
  visit_contents(state, [&](const ContentId& content) { contents.insert(content); });
  contents.erase(ContentId{});
  return {contents.begin(), contents.end()};
}

Result<WriteBatch> found_fleet(const SignedTrust& trust, std::uint64_t seed, Now now) {
  const auto document = decode_trust(trust.payload);
  if (!document) return std::unexpected(document.error());
  const auto followed = follow_trust(TrustAnchor{document->root, std::nullopt}, {trust}, now.utc);
  if (!followed) return std::unexpected(followed.error());
  State state;
  Step step{state, now, {}};
  step.put("meta", bytes_of("fleet"), {{"format", 1}, {"seed", seed}, {"fleet", document->fleet.hex()}});
  Bytes key = copy_of(bytes_of("trust/"));
  append_number(key, document->version);
  step.put("meta", key, to_json(trust));
  step.audit(operator_actor, "fleet_founded", {{"fleet", document->fleet.hex()}, {"name", document->name}});
  return std::move(step.out.writes);
}

}  // namespace rivulet::coordinator
