#include <algorithm>
#include <utility>

#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"
#include "protocol/rng.h"

namespace rivulet::coordinator {
namespace {

/// How many rounds back a task is told from one that never was …
constexpr RoundNumber rounds_remembered = 20;
/// … and how often a round's candidate may have been made anew.
constexpr std::uint32_t attempts_remembered = 4;

const SealedSet* sealed_of(const RoundPhase& phase) {
  if (const auto* aggregating = std::get_if<Aggregating>(&phase)) return &aggregating->sealed;
  if (const auto* gating = std::get_if<Gating>(&phase)) return &gating->sealed;
  if (const auto* publishing = std::get_if<Publishing>(&phase)) return &publishing->sealed;
  return nullptr;
}

void exclude_from_training(Step& step, Training& phase, const PublicKey& key) {
  const auto at =
      std::ranges::find_if(phase.accepted, [&](const auto& entry) { return entry.second.node == key; });
  if (at == phase.accepted.end()) return;
  const UpdateRecord update = at->second;
  phase.accepted.erase(at);
  phase.tasks.at(update.task).state = Training::TaskState::withdrawn;
  step.erase("tasks", update.task.span());
  give_verdict(step, update, Reason::node_revoked, 0);
  step.erase_unreferenced({update.content});
}

/// A report of a node that turned out untrustworthy says nothing.
void exclude_report(Step& step, Gating& phase, const PublicKey& key) {
  const auto at =
      std::ranges::find_if(phase.evaluators, [&](const auto& entry) { return entry.second.node == key; });
  if (at == phase.evaluators.end()) return;
  if (at->second.report) --phase.reports;
  step.erase("tasks", at->first.span());
  phase.evaluators.erase(at);
}

/// What was made of the sealed set holds the node's update: make it anew without.
void reseal_without(Step& step, const PublicKey& key) {
  Round& round = step.state.round;
  const SealedSet& sealed = *sealed_of(round.phase);
  const auto at = std::ranges::find(sealed.updates, key, &UpdateRecord::node);
  if (at == sealed.updates.end()) return;
  const UpdateRecord excluded = *at;
  std::vector<UpdateRecord> rest = sealed.updates;
  std::erase(rest, excluded);
  const std::uint32_t attempt = sealed.attempt + 1;

  std::vector<ContentId> contents{excluded.content};
  const CandidateBuilt* candidate = nullptr;
  if (auto* gating = std::get_if<Gating>(&round.phase)) {
    candidate = &gating->candidate;
    for (const auto& [task, record] : gating->evaluators) finish_task(step, task, record.node);
  } else if (auto* publishing = std::get_if<Publishing>(&round.phase)) {
    candidate = &publishing->candidate;
  }
  if (candidate != nullptr) {
    contents.insert(contents.end(), {candidate->snapshot, candidate->master, candidate->optimizer_state});
  }
  give_verdict(step, excluded, Reason::node_revoked, 0);
  enter_aggregating(step, seal_set(attempt, std::move(rest), round.plan));
  step.erase_unreferenced(contents);
  const std::size_t left = std::get<Aggregating>(round.phase).sealed.updates.size();
  if (left < round.plan.config.updates_min) {
    end_round(step, Ending::failed,
              "a node was revoked, and " + std::to_string(left) + " updates are left; " +
                  std::to_string(round.plan.config.updates_min) + " are needed");
  }
}

}  // namespace

SealedSet seal_set(std::uint32_t attempt, std::vector<UpdateRecord> updates, const RoundPlan& plan) {
  std::ranges::sort(updates, {}, &UpdateRecord::task);
  SealedSet sealed{attempt, std::move(updates), {}};
  if (!sealed.updates.empty()) sealed.entries = seal(sealed.updates, plan);
  return sealed;
}

const UpdateRecord* find_update(const RoundPhase& phase, const TaskId& task) {
  if (const auto* training = std::get_if<Training>(&phase)) {
    const auto at = training->accepted.find(task);
    return at == training->accepted.end() ? nullptr : &at->second;
  }
  const SealedSet* sealed = sealed_of(phase);
  if (sealed == nullptr) return nullptr;
  const auto at = std::ranges::lower_bound(sealed->updates, task, {}, &UpdateRecord::task);
  return at == sealed->updates.end() || at->task != task ? nullptr : &*at;
}

bool is_of_past_round(const State& state, const TaskId& task, const PublicKey& node) {
  const FleetId& fleet = state.trust.fleet;
  const RoundNumber last = state.schedule.last_started;
  for (RoundNumber round = last; round > 0 && round + rounds_remembered > last; --round) {
    if (task == task_id(fleet, round, node, message::TaskType::train, 0)) return true;
    for (std::uint32_t attempt = 0; attempt < attempts_remembered; ++attempt) {
      if (task == task_id(fleet, round, node, message::TaskType::evaluate, attempt)) return true;
    }
  }
  return false;
}

std::optional<Message> task_message(const State& state, const Node& node, const Now& now) {
  if (!node.task) return std::nullopt;
  const RoundPlan& plan = state.round.plan;
  const VersionRecord* base = state.registry.find(plan.base);
  if (base == nullptr) return std::nullopt;
  message::Task task;
  task.id = *node.task;
  task.round = plan.round;
  task.base = base->envelope;
  if (const auto* training = std::get_if<Training>(&state.round.phase)) {
    if (!training->tasks.contains(task.id)) return std::nullopt;
    task.type = message::TaskType::train;
    task.remaining_ms = static_cast<std::uint64_t>(training->deadline.remaining(now).count());
    task.training = plan.training;
    task.training.seed = derive_seed(plan.training.seed, load_le<std::uint64_t>(task.id.span()));
    return task;
  }
  if (const auto* gating = std::get_if<Gating>(&state.round.phase)) {
    if (!gating->evaluators.contains(task.id)) return std::nullopt;
    task.type = message::TaskType::evaluate;
    task.remaining_ms = static_cast<std::uint64_t>(gating->deadline.remaining(now).count());
    task.candidate = gating->candidate.manifest;
    return task;
  }
  return std::nullopt;
}

void give_verdict(Step& step, const UpdateRecord& update, Reason discarded_for, VersionNumber version) {
  State& state = step.state;
  const bool aggregated = version != 0;
  const VerdictRecord verdict{
      update.task,
      update.node,
      update.round,
      update.content,
      aggregated ? message::VerdictOutcome::aggregated : message::VerdictOutcome::discarded,
      aggregated ? Reason::none : discarded_for,
      version};
  Bytes key = number_key(update.round);
  key.insert(key.end(), update.task.bytes.begin(), update.task.bytes.end());
  step.put("verdicts", key, to_json(verdict));
  step.erase("updates", update.task.span());
  state.verdicts[update.task] = verdict;
  if (state.verdicts_by_round.empty() || state.verdicts_by_round.back().first != update.round) {
    state.verdicts_by_round.emplace_back(update.round, std::vector<TaskId>());
  }
  state.verdicts_by_round.back().second.push_back(update.task);
  if (const Node* node = state.fleet.find(update.node)) {
    step.send(*node, message::Verdicts{{{verdict.task, verdict.outcome, verdict.reason, verdict.version}}});
  }
}

void send_receipt(Step& step, const Node& node, const TaskId& task, message::ReceiptOutcome outcome,
                  Reason reason, std::string detail) {
  if (node.session != 0) step.send(node.session, message::Receipt{task, outcome, reason, std::move(detail)});
}

void finish_task(Step& step, const TaskId& task, const PublicKey& key) {
  step.erase("tasks", task.span());
  Node* node = step.state.fleet.find(key);
  if (node == nullptr || node->task != task) return;
  node->task.reset();
  step.send(*node, message::TaskCancelled{task, Reason::round_closed});
}

void finish_training_tasks(Step& step, const Training& phase) {
  for (const auto& [task, invited] : phase.tasks) {
    if (invited.state == Training::TaskState::open) step.emit(effect::DropFetch{task});
    finish_task(step, task, invited.node);
  }
}

void withdraw_task(Step& step, Node& node, Reason reason) {
  if (!node.task) return;
  const TaskId task = *node.task;
  node.task.reset();
  step.erase("tasks", task.span());
  if (auto* training = std::get_if<Training>(&step.state.round.phase)) {
    const auto at = training->tasks.find(task);
    if (at != training->tasks.end() && at->second.state == Training::TaskState::open) {
      at->second.state = Training::TaskState::withdrawn;
      --training->open;
    }
    training->incoming.erase(task);
    step.emit(effect::DropFetch{task});
  } else if (auto* gating = std::get_if<Gating>(&step.state.round.phase)) {
    gating->evaluators.erase(task);
  }
  step.send(node, message::TaskCancelled{task, reason});
}

void exclude_from_round(Step& step, const PublicKey& key) {
  RoundPhase& phase = step.state.round.phase;
  if (auto* training = std::get_if<Training>(&phase)) return exclude_from_training(step, *training, key);
  if (auto* gating = std::get_if<Gating>(&phase)) exclude_report(step, *gating, key);
  if (sealed_of(phase) != nullptr) reseal_without(step, key);
}

void put_round(Step& step) {
  const Round& round = step.state.round;
  RoundRecord record;
  record.plan = round.plan;
  record.summary = round.summary;
  if (const auto* selecting = std::get_if<Selecting>(&round.phase)) {
    record.deadline = selecting->deadline.utc;
    record.patience = selecting->patience.utc;
  } else if (const auto* training = std::get_if<Training>(&round.phase)) {
    record.deadline = training->deadline.utc;
  } else if (const auto* gating = std::get_if<Gating>(&round.phase)) {
    record.deadline = gating->deadline.utc;
    record.candidate = gating->candidate;
  } else if (const auto* publishing = std::get_if<Publishing>(&round.phase)) {
    record.deadline = publishing->not_before.utc;
    record.candidate = publishing->candidate;
  }
  if (const SealedSet* sealed = sealed_of(round.phase)) record.attempt = sealed->attempt;
  step.put("rounds", number_key(round.plan.round), to_json(record));
}

}  // namespace rivulet::coordinator
