#include <algorithm>
#include <map>

#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"

namespace rivulet::coordinator {
namespace {

using effect::Level;
using message::TaskType;

/// The open task that a node gives up, or why it has none of that id.
std::expected<TaskType, Refusal> judge_decline(const State& state, const Node& node, const TaskId& task) {
  const auto judge_owner = [&](const PublicKey& owner, TaskType type) -> std::expected<TaskType, Refusal> {
    if (owner != node.record.key) {
      return std::unexpected(
          Refusal{Reason::not_your_task, "the task " + task.hex() + " was given to another node"});
    }
    // It is over for this node: accepted, refused, withdrawn, or declined already.
    if (node.task != task) return std::unexpected(Refusal{Reason::round_closed, "the task is not open"});
    return type;
  };
  if (const auto* training = std::get_if<Training>(&state.round.phase)) {
    const auto at = training->tasks.find(task);
    if (at != training->tasks.end()) return judge_owner(at->second.node, TaskType::train);
  } else if (const auto* gating = std::get_if<Gating>(&state.round.phase)) {
    const auto at = gating->evaluators.find(task);
    if (at != gating->evaluators.end()) return judge_owner(at->second.node, TaskType::evaluate);
  }
  if (is_of_past_round(state, task, node.record.key)) {
    return std::unexpected(Refusal{Reason::round_closed, "the round of this task is over"});
  }
  return std::unexpected(Refusal{Reason::unknown_task, "no open round has the task " + task.hex()});
}

void decline_training(Step& step, Training& phase, const TaskId& task, const Refusal& why) {
  Training::Invited& invited = phase.tasks.at(task);
  invited.state = Training::TaskState::declined;
  invited.refusal = why;
  --phase.open;
  // A node that offered and then declines takes its offer back.
  phase.incoming.erase(task);
  step.emit(effect::DropFetch{task});
}

}  // namespace

void on_declined(Step& step, Node& node, const message::Declined& declined) {
  State& state = step.state;
  const PublicKey& key = node.record.key;
  const TaskId& task = declined.task;
  const auto type = judge_decline(state, node, task);
  if (!type) {
    const Refusal& refusal = type.error();
    const bool late = refusal.reason == Reason::round_closed;  // The two crossed on the way.
    step.notice(late ? Level::info : Level::warning, "decline_refused", std::string(name(refusal.reason)),
                {{"node", key.hex()}, {"task", task.hex()}, {"detail", refusal.detail}});
    if (!late)
      send_receipt(step, node, task, message::ReceiptOutcome::refused, refusal.reason, refusal.detail);
    return;
  }
  const Refusal why{declined.reason, declined.detail};
  const RoundNumber round = state.round.plan.round;
  const TaskRecord record{task, key, round, *type, std::nullopt, why};
  node.task.reset();
  ++state.round.summary.declined;
  step.put("tasks", task.span(), to_json(record));
  step.audit(
      node_actor(key), "task_declined",
      {{"task", task.hex()}, {"round", round}, {"type", name(*type)}, {"reason", name(declined.reason)}});
  step.notice(Level::warning, "task_declined", std::string(name(declined.reason)),
              {{"node", key.hex()},
               {"task", task.hex()},
               {"round", std::to_string(round)},
               {"type", std::string(name(*type))},
               {"detail", declined.detail}});
  if (*type == TaskType::train) {
    return decline_training(step, std::get<Training>(state.round.phase), task, why);
  }
  auto& gating = std::get<Gating>(state.round.phase);
  gating.evaluators.at(task) = record;
  replace_evaluator(step, gating);
}

std::string declined_words(const RoundPhase& phase) {
  std::map<Reason, std::size_t> counts;
  if (const auto* training = std::get_if<Training>(&phase)) {
    for (const auto& [task, invited] : training->tasks) {
      if (invited.state == Training::TaskState::declined) ++counts[invited.refusal.reason];
    }
  } else if (const auto* gating = std::get_if<Gating>(&phase)) {
    for (const auto& [task, record] : gating->evaluators) {
      if (record.declined) ++counts[record.declined->reason];
    }
  }
  std::string words;
  for (const auto& [reason, count] : counts) {
    words +=
        (words.empty() ? "; declined: " : ", ") + std::to_string(count) + " " + std::string(name(reason));
  }
  return words;
}

}  // namespace rivulet::coordinator
