#include "node/core/outbox.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "node/core/records.h"
#include "node/core/serving.h"
#include "node/core/transfers.h"
#include "protocol/assert.h"
#include "protocol/text.h"

namespace rivulet::node {
namespace {

using Kind = OutboxEntry::Kind;

/// Of open and of decided tasks: a coordinator ends the session of a node that names more.
constexpr std::size_t ready_tasks_max = 256;

void drop_delta(Turn& turn, OutboxEntry& entry) {
  if (entry.content.is_zero()) return;
  const ContentId content = std::exchange(entry.content, {});
  entry.content_bytes = 0;
  drop_if_unreferenced(turn, content);
}

void end_entry(Turn& turn, const TaskId& task, OutboxEntry& entry, Ended ended, const std::string& detail) {
  drop_delta(turn, entry);
  turn.write(outbox_erasure(task));
  turn.state.outbox.erase(task);
  record_end(turn, std::move(ended), detail);
}

void release_turn(State& state, const TaskId& task) {
  auto* session = std::get_if<Online>(&state.link.phase);
  if (session != nullptr && session->offered == task) session->offered.reset();
}

message::Ready ready(const State& state) {
  message::Ready ready{.serves = served_version(state),
                       .manifest_version = state.serving.highest_manifest,
                       .samples = state.counts.samples,
                       .holdout_samples = state.counts.holdout_samples,
                       .open_tasks = {},
                       .awaiting_verdict = {}};
  const auto name = [](std::vector<TaskId>& list, const TaskId& id) {
    if (list.size() < ready_tasks_max) list.push_back(id);
  };
  for (const auto& [id, task] : state.tasks) name(ready.open_tasks, id);
  for (const auto& [id, entry] : state.outbox) {
    name(entry.accepted ? ready.awaiting_verdict : ready.open_tasks, id);
  }
  return ready;
}

/// A verdict that has not come for so long never will: its coordinator has forgotten the update.
void drop_unanswered(Turn& turn) {
  State& state = turn.state;
  const UtcTime limit = turn.now.utc - state.config.verdict_wait_max;
  std::vector<TaskId> old;
  for (const auto& [id, entry] : state.outbox) {
    if (entry.accepted && entry.made < limit) old.push_back(id);
  }
  for (const TaskId& id : old) {
    end_entry(turn, id, state.outbox.at(id), {.task = id, .outcome = "unanswered"},
              "no verdict has come on the accepted update");
  }
}

}  // namespace

void put_in_outbox(Turn& turn, const TaskId& task, OutboxEntry entry) {
  State& state = turn.state;
  RIVULET_ASSERT(!state.outbox.contains(task));
  turn.write(outbox_record(task, entry));
  turn.write(task_erasure(task));
  state.tasks.erase(task);
  turn.collect = true;
  if (entry.kind == Kind::report && online(state)) turn.send(message::Evaluation{entry.envelope});
  state.outbox.emplace(task, std::move(entry));
}

void on_receipt(Turn& turn, const message::Receipt& receipt) {
  State& state = turn.state;
  const auto found = state.outbox.find(receipt.task);
  if (found == state.outbox.end() || found->second.accepted) return;
  OutboxEntry& entry = found->second;
  release_turn(state, receipt.task);
  using enum message::ReceiptOutcome;
  if (receipt.outcome == accepted && entry.kind == Kind::update) {
    drop_delta(turn, entry);
    entry.accepted = true;
    turn.write(outbox_record(receipt.task, entry));
    turn.notice(Level::info, "update_accepted", {{"task", receipt.task.hex()}});
    return;
  }
  const std::string outcome = receipt.outcome == accepted    ? "reported"
                              : receipt.outcome == duplicate ? "duplicate"
                                                             : "refused";
  end_entry(turn, receipt.task, entry, {.task = receipt.task, .outcome = outcome, .reason = receipt.reason},
            receipt.detail);
}

void on_verdicts(Turn& turn, const message::Verdicts& verdicts) {
  State& state = turn.state;
  for (const message::Verdict& verdict : verdicts.entries) {
    const auto found = state.outbox.find(verdict.task);
    // A verdict also ends an update whose receipt was lost.
    if (found == state.outbox.end() || found->second.kind != Kind::update) continue;
    release_turn(state, verdict.task);
    const bool aggregated = verdict.outcome == message::VerdictOutcome::aggregated;
    end_entry(turn, verdict.task, found->second,
              {.task = verdict.task,
               .outcome = aggregated ? "aggregated" : "discarded",
               .reason = verdict.reason,
               .version = verdict.version},
              {});
  }
}

void on_offer_cancelled(Turn& turn, const message::TaskCancelled& cancelled) {
  const auto found = turn.state.outbox.find(cancelled.id);
  if (found == turn.state.outbox.end() || found->second.accepted) return;
  release_turn(turn.state, cancelled.id);
  end_entry(turn, cancelled.id, found->second,
            {.task = cancelled.id, .outcome = "cancelled", .reason = cancelled.reason}, {});
}

void record_end(Turn& turn, Ended ended, const std::string& detail) {
  State& state = turn.state;
  ended.time = turn.now.utc;
  ended.detail = to_printable(detail, detail_bytes_max);
  const bool good = ended.outcome == "aggregated" || ended.outcome == "reported";
  Fields fields = {{"task", ended.task.hex()}, {"outcome", ended.outcome}};
  if (ended.reason != Reason::none) fields.emplace_back("reason", name(ended.reason));
  if (ended.version != 0) fields.emplace_back("version", fmt::to_string(ended.version));
  if (!detail.empty()) fields.emplace_back("detail", detail);
  turn.notice(good ? Level::info : Level::warning, "task_ended", std::move(fields));
  const std::uint64_t sequence = state.next_sequence++;
  turn.write(ended_record(sequence, ended));
  state.ended.emplace(sequence, std::move(ended));
  while (state.ended.size() > state.config.ended_max) {
    turn.write(ended_erasure(state.ended.begin()->first));
    state.ended.erase(state.ended.begin());
  }
}

const Ended* find_ended(const State& state, const TaskId& task) {
  const auto found = std::find_if(state.ended.begin(), state.ended.end(),
                                  [&](const auto& entry) { return entry.second.task == task; });
  return found == state.ended.end() ? nullptr : &found->second;
}

void greet(Turn& turn) {
  turn.send(ready(turn.state));
  for (const auto& [id, entry] : turn.state.outbox) {
    if (entry.kind == Kind::report) turn.send(message::Evaluation{entry.envelope});
  }
}

void settle_outbox(Turn& turn) {
  drop_unanswered(turn);
  auto* session = std::get_if<Online>(&turn.state.link.phase);
  if (session == nullptr || session->offered) return;
  const TaskId* next = nullptr;
  std::uint64_t least = 0;
  for (const auto& [id, entry] : turn.state.outbox) {
    if (entry.kind != Kind::update || entry.accepted || (next != nullptr && entry.sequence > least)) continue;
    next = &id;
    least = entry.sequence;
  }
  if (next == nullptr) return;
  session->offered = *next;
  turn.send(message::Offer{turn.state.outbox.at(*next).envelope});
}

}  // namespace rivulet::node
