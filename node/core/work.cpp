#include "node/core/work.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "node/core/judging.h"
#include "node/core/link.h"
#include "node/core/outbox.h"
#include "node/core/records.h"
#include "node/core/serving.h"
#include "protocol/codec/codec.h"
#include "protocol/text.h"
#include "protocol/training_limits.h"

namespace rivulet::node {
namespace {

struct Refusal {
  Reason reason;
  std::string detail;
};

/// Nothing, or what is wrong with it.
std::optional<std::string> check_plan(const message::TrainingPlan& plan) {
  const auto in_range = [](double value, double most) {
    return std::isfinite(value) && value >= 0 && value <= most;
  };
  if (plan.epochs == 0 || plan.epochs > training_epochs_max) {
    return fmt::format("{} epochs; 1 to {} are allowed", plan.epochs, training_epochs_max);
  }
  if (plan.batch_size == 0 || plan.batch_size > training_batch_size_max) {
    return fmt::format("a batch size of {}; 1 to {} are allowed", plan.batch_size, training_batch_size_max);
  }
  if (!in_range(plan.learning_rate, 1e6) || plan.learning_rate == 0) {
    return fmt::format("a learning rate of {}", plan.learning_rate);
  }
  if (!in_range(plan.momentum, 1) || !in_range(plan.weight_decay, 1e6) || !in_range(plan.proximal_mu, 1e6) ||
      !in_range(plan.norm_bound, 1e30)) {
    return "momentum, weight decay, proximal term or norm bound is out of range";
  }
  if (plan.optimizer > 1) return fmt::format("optimizer {} is unknown", plan.optimizer);
  const auto codec = codec_from_number(plan.codec);
  return codec ? std::nullopt : std::optional(codec.error().detail);
}

/// Signatures, fleet, epoch and sizes.
Status check_manifests(const State& state, const message::Task& message, Task& task) {
  auto base = open_version(state, message.base);
  if (!base) return std::unexpected(base.error());
  task.base = std::move(*base);
  if (auto status = check_manifest(state, task.base); !status) return status;
  if (message.type == message::TaskType::train) return {};
  auto candidate = open_candidate(state, message.candidate);
  if (!candidate) return std::unexpected(candidate.error());
  task.candidate = std::move(*candidate);
  return check_candidate(state, *task.candidate, task.base, message.round);
}

/// All that can be said of a task before its release is there. @return nothing, or why not.
std::optional<Refusal> check_task(const State& state, const message::Task& message, UtcTime utc, Task& task) {
  if (state.tasks.size() >= state.config.tasks_max)
    return Refusal{Reason::overloaded, "as many tasks as tasks_max allows wait"};
  if (state.outbox.size() >= state.config.outbox_max)
    return Refusal{Reason::overloaded,
                   "as many results as outbox_max allows wait for the coordinator's answer"};
  if (message.remaining_ms == 0) return Refusal{Reason::too_late, "its deadline has passed"};
  if (trust_expired(state, utc))
    return Refusal{Reason::untrusted, "trust has expired: renew it with 'rivulet trust renew'"};
  if (auto status = check_manifests(state, message, task); !status)
    return Refusal{Reason::bad_manifest, status.error().detail};
  if (message.type != message::TaskType::train) return std::nullopt;
  if (auto wrong = check_plan(message.training)) return Refusal{Reason::bad_plan, std::move(*wrong)};
  return std::nullopt;
}

/// Says that neither update nor report will come, for which the round would else wait. What is lost, or
/// happens offline, is said again when the coordinator sends the task in the next session.
void decline(Turn& turn, const TaskId& task, Reason reason, const std::string& detail) {
  if (!online(turn.state)) return;
  turn.send(message::Declined{task, reason, to_printable(detail, detail_bytes_max)});
}

/// Whether it ended here, and not by the coordinator's word.
bool given_up(const Ended& ended) { return ended.outcome == "failed" || ended.outcome == "expired"; }

/// A task that the coordinator itself ended comes again only from one that has forgotten it, such as an old
/// copy that was restored: ids repeat with the numbers of rounds.
void decline_again(Turn& turn, const Ended& ended) {
  if (given_up(ended)) return decline(turn, ended.task, ended.reason, ended.detail);
  decline(turn, ended.task, Reason::round_closed,
          "a task of this id ended here before (" + ended.outcome + ")");
}

void drop_task(Turn& turn, const Task& task) {
  const TaskId id = task.task.id;
  const std::optional<ContentId> result = task.result;
  if (task.step == Step::running) turn.emit(effect::StopTask{id});
  turn.write(task_erasure(id));
  turn.state.tasks.erase(id);
  if (result) drop_if_unreferenced(turn, *result);
  turn.collect = true;
}

void end_task(Turn& turn, const TaskId& id, Ended ended, const std::string& detail) {
  const auto task = turn.state.tasks.find(id);
  if (task == turn.state.tasks.end()) return;
  drop_task(turn, task->second);
  if (given_up(ended)) decline(turn, id, ended.reason, detail);
  record_end(turn, std::move(ended), detail);
}

Status check_task_release(const State& state, const Task& task, const KnownRelease& release, UtcTime utc) {
  if (auto status = check_allowed(state, release, task.base, utc); !status || !task.candidate) return status;
  return check_size(state, release, task.candidate->form, task.candidate->snapshot_bytes);
}

void add_needs_of(const State& state, const Task& task, std::vector<Need>& needs) {
  if (task.step != Step::preparing) return;
  add_needs(state, task.base, needs);
  const bool judged = known_release(state, task.base.release, task.base.release_content) != nullptr;
  if (judged && task.candidate)
    add_need(state, task.candidate->snapshot, task.candidate->snapshot_bytes, needs);
}

std::vector<TaskId> by_arrival(const State& state) {
  std::vector<std::pair<std::uint64_t, TaskId>> order;
  for (const auto& [id, task] : state.tasks) order.emplace_back(task.sequence, id);
  std::sort(order.begin(), order.end());
  std::vector<TaskId> ids;
  for (const auto& [sequence, id] : order) ids.push_back(id);
  return ids;
}

void start_task(Turn& turn, Task& task) {
  task.step = Step::running;
  ++task.attempts;  // Durable before the task begins: what kills the process is not begun for ever.
  turn.write(task_record(task));
  if (task.candidate) {
    const KnownRelease& release = turn.state.releases.at(task.base.release);
    turn.emit(effect::Evaluate{task.task.id, task.task.round, task.base, *task.candidate,
                               choose_variant(turn.state, release, task.base).value_or("fp32")});
  } else {
    turn.emit(effect::Train{task.task.id, task.task.round, task.base, task.task.training});
  }
}

/// It begins anew, and what it was stopped for is no attempt of its own.
void put_off(Turn& turn, Task& task) {
  turn.emit(effect::StopTask{task.task.id});
  --task.attempts;
  turn.write(task_record(task));
  task.step = Step::preparing;
}

/// One of each kind runs at a time.
bool one_runs(const State& state, message::TaskType type) {
  return std::any_of(state.tasks.begin(), state.tasks.end(), [type](const auto& entry) {
    return entry.second.step == Step::running && entry.second.task.type == type;
  });
}

Task* find_task(State& state, const TaskId& id, Step step, message::TaskType type) {
  const auto found = state.tasks.find(id);
  if (found == state.tasks.end() || found->second.step != step || found->second.task.type != type)
    return nullptr;
  return &found->second;
}

void fail_task(Turn& turn, const TaskId& id, Reason reason, const std::string& detail) {
  end_task(turn, id, {.task = id, .outcome = "failed", .reason = reason}, detail);
}

}  // namespace

void on_task(Turn& turn, message::Task message) {
  State& state = turn.state;
  const TaskId id = message.id;
  if (state.tasks.contains(id) || state.outbox.contains(id)) return;
  if (const Ended* ended = find_ended(state, id)) return decline_again(turn, *ended);
  Task task;
  if (const auto refusal = check_task(state, message, turn.now.utc, task)) {
    const auto& [reason, detail] = *refusal;
    turn.notice(Level::warning, "task_refused",
                {{"task", id.hex()}, {"reason", std::string(name(reason))}, {"detail", detail}});
    return decline(turn, id, reason, detail);
  }
  const auto length_max = static_cast<std::uint64_t>(state.config.task_length_max.count());
  message.remaining_ms = std::min(message.remaining_ms, length_max);
  const std::chrono::milliseconds remaining(static_cast<std::int64_t>(message.remaining_ms));
  task.sequence = state.next_sequence++;
  task.deadline_utc = turn.now.utc + remaining;
  task.deadline = turn.now.monotonic + remaining;
  task.task = std::move(message);
  turn.write(task_record(task));
  turn.notice(Level::info, "task_taken",
              {{"task", id.hex()},
               {"type", task.candidate ? "evaluate" : "train"},
               {"round", fmt::to_string(task.task.round)},
               {"version", fmt::to_string(task.base.version)}});
  state.tasks.emplace(id, std::move(task));
}

void on_task_cancelled(Turn& turn, const message::TaskCancelled& cancelled) {
  on_offer_cancelled(turn, cancelled);
  end_task(turn, cancelled.id, {.task = cancelled.id, .outcome = "cancelled", .reason = cancelled.reason},
           {});
}

void on_training_done(Turn& turn, const event::TrainingDone& event) {
  State& state = turn.state;
  Task* task = find_task(state, event.task, Step::running, message::TaskType::train);
  if (task == nullptr) return drop_if_unreferenced(turn, event.content);
  task->step = Step::sealing;
  task->result = event.content;
  task->result_bytes = event.content_bytes;
  if (!std::isfinite(event.loss_first) || !std::isfinite(event.loss_last)) {
    return fail_task(turn, event.task, Reason::training_diverged, "the training loss is not finite");
  }
  if (event.sample_count == 0 || event.content_bytes == 0) {
    return fail_task(turn, event.task, Reason::too_few_samples, "nothing was trained on");
  }
  turn.emit(effect::SealUpdate{UpdateHeader{.fleet = state.trust.document->fleet,
                                            .task = event.task,
                                            .node = state.config.node,
                                            .base_version = task->base.version,
                                            .base_hash = task->base.weights_hash,
                                            .codec = task->task.training.codec,
                                            .parameter_count = event.parameter_count,
                                            .sample_count = event.sample_count,
                                            .loss_first = event.loss_first,
                                            .loss_last = event.loss_last,
                                            .content = event.content,
                                            .content_bytes = event.content_bytes,
                                            .time = turn.now.utc}});
}

void on_evaluation_done(Turn& turn, const event::EvaluationDone& event) {
  State& state = turn.state;
  Task* task = find_task(state, event.task, Step::running, message::TaskType::evaluate);
  if (task == nullptr) return;
  const EvaluationReport report{.fleet = state.trust.document->fleet,
                                .task = event.task,
                                .node = state.config.node,
                                .parent_hash = task->base.weights_hash,
                                .candidate_hash = task->candidate->weights_hash,
                                .both_right = event.both_right,
                                .parent_only = event.parent_only,
                                .candidate_only = event.candidate_only,
                                .both_wrong = event.both_wrong,
                                .parent_loss_sum = event.parent_loss_sum,
                                .candidate_loss_sum = event.candidate_loss_sum,
                                .time = turn.now.utc};
  task->step = Step::sealing;
  if (report.samples() == 0)
    return fail_task(turn, event.task, Reason::too_few_samples, "no labelled holdout sample");
  turn.emit(effect::SealReport{report});
}

void on_task_failed(Turn& turn, const event::TaskFailed& event) {
  const auto found = turn.state.tasks.find(event.task);
  if (found == turn.state.tasks.end() || found->second.step != Step::running) return;
  forget_damaged(turn, event.damaged);
  if (!event.damaged.empty() && found->second.attempts < turn.state.config.attempts_max) {
    // Nothing is wrong with the task: it begins anew once its content is whole.
    found->second.step = Step::preparing;
    return;
  }
  found->second.step = Step::sealing;  // It has stopped by itself.
  fail_task(turn, event.task, event.reason, event.detail);
}

void on_update_sealed(Turn& turn, const event::UpdateSealed& event) {
  const Task* task = find_task(turn.state, event.task, Step::sealing, message::TaskType::train);
  if (task == nullptr || !task->result) return;
  put_in_outbox(turn, event.task,
                {.sequence = task->sequence,
                 .kind = OutboxEntry::Kind::update,
                 .envelope = event.header,
                 .content = *task->result,
                 .content_bytes = task->result_bytes,
                 .accepted = false,
                 .made = turn.now.utc});
}

void on_report_sealed(Turn& turn, const event::ReportSealed& event) {
  const Task* task = find_task(turn.state, event.task, Step::sealing, message::TaskType::evaluate);
  if (task == nullptr) return;
  put_in_outbox(turn, event.task,
                {.sequence = task->sequence,
                 .kind = OutboxEntry::Kind::report,
                 .envelope = event.report,
                 .content = {}});
}

void start_work(Turn& turn) {
  for (auto& [id, task] : turn.state.tasks) {
    const auto whole = std::chrono::milliseconds(static_cast<std::int64_t>(task.task.remaining_ms));
    // The clock may stand anywhere after a restart: no deadline lies beyond the task's whole length.
    const auto remaining = std::clamp(task.deadline_utc - turn.now.utc, std::chrono::milliseconds(0), whole);
    task.deadline = turn.now.monotonic + remaining;
  }
}

void stop_work(Turn& turn) {
  for (auto& [id, task] : turn.state.tasks) {
    if (task.step == Step::running) put_off(turn, task);
    task.step = Step::preparing;
  }
}

void settle_work(Turn& turn) {
  State& state = turn.state;
  const bool serving_first = activation_pressing(state);
  for (const TaskId& id : by_arrival(state)) {
    Task& task = state.tasks.at(id);
    const bool waits = serving_first && task.candidate;
    if (task.deadline <= turn.now.monotonic) {
      end_task(turn, id, {.task = id, .outcome = "expired", .reason = Reason::too_late},
               "its deadline passed");
      continue;
    }
    if (waits && task.step == Step::running) {
      put_off(turn, task);
      turn.notice(Level::info, "task_put_off", {{"task", id.hex()}, {"detail", "a model is loaded first"}});
    }
    if (task.step != Step::preparing || waits) continue;
    const KnownRelease* release = known_release(state, task.base.release, task.base.release_content);
    if (release == nullptr) continue;
    if (auto status = check_task_release(state, task, *release, turn.now.utc); !status) {
      fail_task(turn, id, Reason::bad_manifest, status.error().detail);
      continue;
    }
    if (task.attempts >= state.config.attempts_max) {
      fail_task(turn, id, Reason::training_failed,
                fmt::format("it was begun {} times, and none came to an end: is there memory enough?",
                            task.attempts));
      continue;
    }
    std::vector<Need> needs;
    add_needs_of(state, task, needs);
    if (needs.empty() && !one_runs(state, task.task.type)) start_task(turn, task);
  }
}

void add_task_needs(const State& state, std::vector<Need>& needs) {
  for (const TaskId& id : by_arrival(state)) add_needs_of(state, state.tasks.at(id), needs);
}

void fail_tasks_with(Turn& turn, const ContentId& content, Reason reason, const std::string& detail) {
  for (const TaskId& id : by_arrival(turn.state)) {
    std::vector<Need> needs;
    add_needs_of(turn.state, turn.state.tasks.at(id), needs);
    const bool concerned =
        std::any_of(needs.begin(), needs.end(), [&](const Need& need) { return need.content == content; });
    if (concerned) fail_task(turn, id, reason, detail);
  }
}

std::optional<MonotonicTime> work_deadline(const State& state) {
  std::optional<MonotonicTime> next;
  for (const auto& [id, task] : state.tasks) next = next ? std::min(*next, task.deadline) : task.deadline;
  return next;
}

}  // namespace rivulet::node
