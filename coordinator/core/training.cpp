#include <algorithm>
#include <cmath>

#include "coordinator/aggregation/weights.h"
#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"

namespace rivulet::coordinator {
namespace {

using effect::Level;
using message::ReceiptOutcome;

/// A task takes one content. A node that lost its own may train anew; this often, and no more, so that
/// half-sent contents do not take the room of others.
constexpr std::size_t contents_per_task = 4;

void refuse(Step& step, const Node& node, const TaskId& task, const Refusal& refusal) {
  const RoundPhase& phase = step.state.round.phase;
  if (!std::holds_alternative<Idle>(phase) && !std::holds_alternative<Failed>(phase))
    ++step.state.round.summary.refused;
  step.notice(Level::warning, "update_refused", std::string(name(refusal.reason)),
              {{"node", node.record.key.hex()}, {"task", task.hex()}, {"detail", refusal.detail}});
  const bool duplicate = refusal.reason == Reason::duplicate_content;
  send_receipt(step, node, task, duplicate ? ReceiptOutcome::duplicate : ReceiptOutcome::refused,
               refusal.reason, refusal.detail);
}

/// Answers for a task whose update was accepted before: the same receipt for the same content.
/// @return whether there was one.
bool answer_again(Step& step, const Node& node, const UpdateHeader& header) {
  const State& state = step.state;
  ContentId accepted;
  if (const UpdateRecord* update = find_update(state.round.phase, header.task)) {
    if (update->node != node.record.key) return false;
    accepted = update->content;
  } else if (const auto at = state.verdicts.find(header.task); at != state.verdicts.end()) {
    if (at->second.node != node.record.key) return false;
    accepted = at->second.content;
  } else {
    return false;
  }
  if (accepted == header.content) {
    send_receipt(step, node, header.task, ReceiptOutcome::accepted, Reason::none, "");
  } else {
    refuse(step, node, header.task,
           {Reason::duplicate_content, "the task has an update already: a task takes one"});
  }
  return true;
}

/// The content that was fetched is no good; the answer stays for the rest of the round.
void refuse_content(Step& step, Training& phase, const TaskId& task, Refusal refusal) {
  Training::Invited& invited = phase.tasks.at(task);
  if (invited.state == Training::TaskState::open) --phase.open;
  invited.state = Training::TaskState::refused;
  invited.refusal = refusal;
  TaskRecord record{task, invited.node, step.state.round.plan.round, message::TaskType::train, std::nullopt};
  record.refused = refusal;
  step.put("tasks", task.span(), to_json(record));
  Node* node = step.state.fleet.find(invited.node);
  if (node->task == task) node->task.reset();
  refuse(step, *node, task, refusal);
}

std::optional<Refusal> judge_norm(const UpdateFacts& facts, double bound) {
  if (!std::isfinite(facts.norm)) return Refusal{Reason::not_finite, "its norm is not a finite number"};
  if (bound > 0 && facts.norm > norm_refusal_factor * bound) {
    return Refusal{Reason::norm_too_large, "its norm is " + std::to_string(facts.norm) + ", more than " +
                                               std::to_string(static_cast<int>(norm_refusal_factor)) +
                                               " times the bound of " + std::to_string(bound)};
  }
  return std::nullopt;
}

void accept(Step& step, Training& phase, const UpdateHeader& header, const UpdateFacts& facts) {
  RoundSummary& summary = step.state.round.summary;
  UpdateRecord update;
  update.task = header.task;
  update.node = header.node;
  update.round = summary.round;
  update.content = header.content;
  update.content_bytes = facts.bytes;
  update.codec = header.codec;
  update.sample_count = header.sample_count;
  update.norm = facts.norm;
  update.loss_first = header.loss_first;
  update.loss_last = header.loss_last;
  update.order = summary.accepted++;
  update.accepted = step.now.utc;
  summary.upload_bytes += facts.bytes;
  step.put("updates", update.task.span(), to_json(update));
  Node* node = step.state.fleet.find(header.node);
  node->told_before = std::max(node->told_before, update.round);
  Training::Invited& invited = phase.tasks.at(header.task);
  invited.state = Training::TaskState::accepted;
  --phase.open;
  phase.accepted[update.task] = update;
  if (node->task == header.task) node->task.reset();
  send_receipt(step, *node, header.task, ReceiptOutcome::accepted, Reason::none, "");
}

/// The fetch that an answer is about, taken out; nothing if it is not wanted any more.
std::optional<Training::Incoming> take_incoming(State& state, const TaskId& task, const ContentId& content) {
  auto* training = std::get_if<Training>(&state.round.phase);
  if (training == nullptr) return std::nullopt;
  const auto at = training->incoming.find(task);
  if (at == training->incoming.end() || at->second.header.content != content) return std::nullopt;
  Training::Incoming incoming = std::move(at->second);
  training->incoming.erase(at);
  return incoming;
}

/// Whether the node has come back and offered the content in another session than the one that failed.
bool is_offered_anew(const State& state, const event::UpdateTransferFailed& event) {
  const auto* training = std::get_if<Training>(&state.round.phase);
  if (training == nullptr || event.session == 0) return false;
  const auto at = training->incoming.find(event.task);
  return at != training->incoming.end() && at->second.session != event.session;
}

}  // namespace

void on_offer(Step& step, Node& node, const Envelope& envelope) {
  State& state = step.state;
  const PublicKey& key = node.record.key;
  const auto header = open_offer(envelope, key);
  if (!header) return refuse(step, node, TaskId{}, header.error());
  if (header->fleet == state.trust.fleet && header->node == key && answer_again(step, node, *header)) return;

  OfferContext context{state.trust.fleet, key, state.round.plan, false, nullptr};
  auto* training = std::get_if<Training>(&state.round.phase);
  if (training != nullptr) {
    context.open = true;
    const auto at = training->tasks.find(header->task);
    if (at != training->tasks.end()) context.task = &at->second;
  }
  auto refusal = judge(*header, context);
  if (refusal && refusal->reason == Reason::unknown_task && is_of_past_round(state, header->task, key)) {
    refusal = Refusal{Reason::round_closed, "the round of this task is over"};
  }
  if (refusal) return refuse(step, node, header->task, *refusal);
  auto& offered = training->tasks.at(header->task).offered;
  if (!offered.contains(header->content) && offered.size() >= contents_per_task) {
    return refuse(step, node, header->task,
                  {Reason::duplicate_content, "the task was offered " + std::to_string(contents_per_task) +
                                                  " other contents before: a task takes one"});
  }
  const auto under_way = training->incoming.find(header->task);
  if (under_way != training->incoming.end() && under_way->second.header.content == header->content &&
      under_way->second.header.content_bytes != header->content_bytes) {
    return refuse(step, node, header->task,
                  {Reason::duplicate_content, "the content was offered with another length before"});
  }
  offered.insert(header->content);
  training->incoming[header->task] = Training::Incoming{node.session, *header};
  step.emit(effect::FetchUpdate{node.session, header->task, header->content, header->content_bytes,
                                header->codec, header->parameter_count, state.round.plan.release});
}

void on(Step& step, const event::UpdateStored& event) {
  State& state = step.state;
  const auto incoming = take_incoming(state, event.task, event.content);
  if (!incoming) return step.erase_unreferenced({event.content});  // Too late, or offered anew.
  auto& training = std::get<Training>(state.round.phase);
  if (auto refusal = judge_norm(event.facts, state.round.plan.training.norm_bound)) {
    refuse_content(step, training, event.task, std::move(*refusal));
    return step.erase_unreferenced({event.content});
  }
  accept(step, training, incoming->header, event.facts);
}

void on(Step& step, const event::UpdateRejected& event) {
  if (!take_incoming(step.state, event.task, event.content)) return;
  refuse_content(step, std::get<Training>(step.state.round.phase), event.task, {event.reason, event.detail});
}

void on(Step& step, const event::UpdateTransferFailed& event) {
  if (is_offered_anew(step.state, event)) return;
  const auto incoming = take_incoming(step.state, event.task, event.content);
  if (!incoming) return;
  step.notice(Level::info, "transfer_failed", "", {{"task", event.task.hex()}, {"detail", event.detail}});
  using Cause = event::UpdateTransferFailed::Cause;
  Node* node = step.state.fleet.find(incoming->header.node);
  if (event.cause == Cause::missing && node->task == event.task) {
    // Nothing more comes of it: the round need not wait for it.
    return withdraw_task(step, *node, Reason::corrupt_content);
  }
  // The node still waits for an answer; it offers anew when it comes back.
  if (shed(step, incoming->session) || event.cause == Cause::connection) return;
  back_off(step, incoming->session, Reason::overloaded, step.state.config.limits.storage_backoff);
}

bool advance(Step& step, Training& phase) {
  Round& round = step.state.round;
  const std::size_t possible = phase.accepted.size() + phase.open;
  const std::size_t goal = std::min<std::size_t>(round.plan.goal_count, possible);
  if (phase.accepted.size() < goal && !phase.deadline.passed(step.now)) return false;
  if (phase.accepted.size() < round.plan.config.updates_min) {
    end_round(step, Ending::failed,
              std::to_string(phase.accepted.size()) + " of " + std::to_string(round.summary.invited) +
                  " nodes brought an update that counts, " + std::to_string(round.plan.config.updates_min) +
                  " are needed" + declined_words(round.phase));
    return true;
  }
  const Training left = std::move(phase);
  finish_training_tasks(step, left);
  std::vector<UpdateRecord> updates;
  for (const auto& [task, update] : left.accepted) updates.push_back(update);
  std::ranges::sort(updates, {}, &UpdateRecord::order);
  std::vector<ContentId> surplus;
  while (updates.size() > round.plan.goal_count) {
    give_verdict(step, updates.back(), Reason::over_goal, 0);
    surplus.push_back(updates.back().content);
    updates.pop_back();
  }
  enter_aggregating(step, seal_set(0, std::move(updates), round.plan));
  step.erase_unreferenced(surplus);
  return true;
}

}  // namespace rivulet::coordinator
