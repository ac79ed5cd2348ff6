#include "coordinator/core/coordinator.h"

#include <set>

#include "coordinator/core/handlers.h"
#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"

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

void add_contents(std::set<ContentId>& contents, const SealedSet& sealed) {
  for (const UpdateRecord& update : sealed.updates) contents.insert(update.content);
}

void add_contents(std::set<ContentId>& contents, const CandidateBuilt& candidate) {
  contents.insert({candidate.snapshot, candidate.master, candidate.optimizer_state});
}

}  // namespace

Transition step(State& state, const Event& event, Now now) {
  Step step{state, now, {}};
  std::visit([&](const auto& specific) { on(step, specific); }, event);
  advance_round(step);
  return std::move(step.out);
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

std::vector<ContentId> referenced_content(const State& state) {
  std::set<ContentId> contents = contents_of(state.registry);
  const RoundPhase& phase = state.round.phase;
  if (const auto* training = std::get_if<Training>(&phase)) {
    for (const auto& [task, update] : training->accepted) contents.insert(update.content);
    for (const auto& [task, incoming] : training->incoming) contents.insert(incoming.header.content);
  } else if (const auto* aggregating = std::get_if<Aggregating>(&phase)) {
    add_contents(contents, aggregating->sealed);
  } else if (const auto* gating = std::get_if<Gating>(&phase)) {
    add_contents(contents, gating->sealed);
    add_contents(contents, gating->candidate);
  } else if (const auto* publishing = std::get_if<Publishing>(&phase)) {
    add_contents(contents, publishing->sealed);
    add_contents(contents, publishing->candidate);
  }
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
