#include <algorithm>
#include <cmath>
#include <utility>

#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"
#include "coordinator/core/views.h"
#include "protocol/assert.h"
#include "protocol/codec/mixed.h"
#include "protocol/rng.h"

namespace rivulet::coordinator {
namespace {

using effect::Level;
using nlohmann::json;

void put_schedule(Step& step) { step.put("meta", bytes_of("schedule"), to_json(step.state.schedule)); }

RoundPlan make_plan(const State& state, RoundNumber round) {
  const ReleaseRecord& release = *state.registry.active_release();
  const VersionRecord& head = *state.registry.find(state.registry.head);
  const Config& config = state.config;
  RoundPlan plan;
  plan.round = round;
  plan.release = release.id;
  plan.base = state.registry.head;
  plan.base_hash = head.manifest.weights_hash;
  plan.parameter_count = release.release.layout.size();
  plan.update_bytes_max = mixed_bytes(config.delta.codec, plan.parameter_count,
                                      ranges_of(release.release.layout, TensorKind::statistic));
  // Less a hair: 20 * 1.15 is a little more than 23 in binary.
  plan.invited_max =
      static_cast<std::uint64_t>(std::ceil(config.round.cohort * config.round.over_selection - 1e-9));
  plan.goal_count = config.round.goal == 0 ? config.round.cohort : config.round.goal;
  const auto optimizer = optimizer_number(config.training.optimizer);
  RIVULET_ASSERT(optimizer.has_value());  // check(config) saw to it.
  plan.training = message::TrainingPlan{config.training.epochs,
                                        config.training.batch_size,
                                        config.training.learning_rate,
                                        config.training.momentum,
                                        config.training.weight_decay,
                                        config.training.proximal_mu,
                                        config.delta.norm_bound,
                                        derive_seed(state.seed, round),
                                        static_cast<std::uint16_t>(config.delta.codec),
                                        *optimizer};
  plan.config = config.round;
  plan.aggregation = config.aggregation;
  plan.validation = config.validation;
  plan.has_holdout = release.has_holdout;
  plan.has_test = release.has_test;
  return plan;
}

/// Whether the node may still wait for it.
bool is_awaited(const State& state, const VerdictRecord& verdict) {
  const Node* node = state.fleet.find(verdict.node);
  if (node == nullptr || node->record.state == NodeState::revoked) return false;
  return verdict.round >= node->told_before || node->awaits.contains(verdict.task);
}

/// Old verdicts go; one that its node may not know stays, so that it is never told a false one.
void forget_old_verdicts(Step& step, RoundNumber current) {
  State& state = step.state;
  for (auto& [round, tasks] : state.verdicts_by_round) {
    if (round + state.config.limits.verdict_rounds >= current) break;
    std::erase_if(tasks, [&](const TaskId& task) {
      if (is_awaited(state, state.verdicts.at(task))) return false;
      Bytes key = number_key(round);
      key.insert(key.end(), task.bytes.begin(), task.bytes.end());
      step.erase("verdicts", key);
      state.verdicts.erase(task);
      return true;
    });
  }
  std::erase_if(state.verdicts_by_round, [](const auto& entry) { return entry.second.empty(); });
}

json waiter_json(const State& state, const Waiter& waiter) {
  json rounds = json::array();
  for (const RoundSummary& summary : state.rounds) {
    if (summary.round >= waiter.first && summary.round <= waiter.last) rounds.push_back(round_json(summary));
  }
  json out = {{"rounds", std::move(rounds)}, {"first", waiter.first}, {"last", waiter.last}};
  if (!state.schedule.stopped.empty()) out["stopped"] = state.schedule.stopped;
  return out;
}

/// The updates of a phase that have no verdict yet.
std::vector<UpdateRecord> pending_updates(const RoundPhase& phase) {
  if (const auto* training = std::get_if<Training>(&phase)) {
    std::vector<UpdateRecord> updates;
    for (const auto& [task, update] : training->accepted) updates.push_back(update);
    return updates;
  }
  if (const auto* aggregating = std::get_if<Aggregating>(&phase)) return aggregating->sealed.updates;
  if (const auto* gating = std::get_if<Gating>(&phase)) return gating->sealed.updates;
  if (const auto* publishing = std::get_if<Publishing>(&phase)) return publishing->sealed.updates;
  return {};
}

const CandidateBuilt* candidate_of(const RoundPhase& phase) {
  if (const auto* gating = std::get_if<Gating>(&phase)) return &gating->candidate;
  if (const auto* publishing = std::get_if<Publishing>(&phase)) return &publishing->candidate;
  return nullptr;
}

void finish_tasks(Step& step, const RoundPhase& phase) {
  if (const auto* training = std::get_if<Training>(&phase)) finish_training_tasks(step, *training);
  if (const auto* gating = std::get_if<Gating>(&phase)) {
    for (const auto& [task, record] : gating->evaluators) finish_task(step, task, record.node);
  }
}

}  // namespace

Status may_publish(const State& state, const Now& now) {
  const ReleaseRecord* release = state.registry.active_release();
  if (release == nullptr || state.registry.head == 0) {
    return fail(Errc::not_found, "there is no model to train: import one with `rivulet model import`");
  }
  if (state.trust.expires <= now.utc) {
    return fail(Errc::refused, "the trust document expired at " + to_rfc3339(state.trust.expires) +
                                   ": renew it with `rivulet trust renew`");
  }
  if (release->release.limits.expires <= now.utc) {
    return fail(Errc::refused, "the release of " + release->release.name + " expired at " +
                                   to_rfc3339(release->release.limits.expires) + ": import a new one");
  }
  if (state.config.validation.mode == ValidationMode::central && !release->has_holdout) {
    return fail(Errc::invalid, "[validation] mode is \"central\", but the release of " +
                                   release->release.name + " came without a holdout");
  }
  return {};
}

bool advance(Step& step, Idle&) {
  State& state = step.state;
  Schedule& schedule = state.schedule;
  if (schedule.last_started >= schedule.until) return false;
  if (const Status status = may_publish(state, step.now); !status) {
    stop_schedule(step, status.error().detail);
    return false;
  }
  const RoundNumber number = ++schedule.last_started;
  put_schedule(step);
  forget_old_verdicts(step, number);
  Round& round = state.round;
  round.plan = make_plan(state, number);
  round.summary = RoundSummary{};
  round.summary.round = number;
  round.summary.started = step.now.utc;
  round.phase = Selecting{Deadline::after(step.now, round.plan.config.selection_patience),
                          Deadline::after(step.now, round.plan.config.selection_deadline)};
  put_round(step);
  return true;
}

bool advance(Step& step, Failed& phase) {
  if (!phase.until.passed(step.now)) return false;
  step.state.round.phase = Idle{};
  return true;
}

void advance_round(Step& step) {
  const State& state = step.state;
  bool changed = true;
  while (changed && !state.storage_full && !state.storage_failed && !state.shutting_down) {
    changed = std::visit([&](auto& phase) { return advance(step, phase); }, step.state.round.phase);
  }
}

void stop_schedule(Step& step, const std::string& why) {
  Schedule& schedule = step.state.schedule;
  schedule.until = schedule.last_started;
  schedule.stopped = why;
  put_schedule(step);
  step.audit(coordinator_actor, "schedule_stopped", {{"reason", why}});
  step.notice(Level::error, "schedule_stopped", "", {{"detail", why}});
  reply_to_waiters(step, schedule.last_started);
  for (const Waiter& waiter : step.state.waiters) step.reply(waiter.request, waiter_json(step.state, waiter));
  step.state.waiters.clear();
}

void reply_to_waiters(Step& step, RoundNumber ended) {
  std::erase_if(step.state.waiters, [&](const Waiter& waiter) {
    if (waiter.last > ended) return false;
    step.reply(waiter.request, waiter_json(step.state, waiter));
    return true;
  });
}

void close_round(Step& step, std::string state_name, const std::string& reason) {
  State& state = step.state;
  RoundSummary& summary = state.round.summary;
  summary.state = std::move(state_name);
  summary.reason = reason;
  summary.ended = step.now.utc;
  put_round(step);
  state.rounds.push_back(summary);
  while (state.rounds.size() > state.config.limits.rounds_listed) state.rounds.pop_front();
}

void end_round(Step& step, Ending ending, const std::string& why) {
  State& state = step.state;
  const bool refused = ending == Ending::refused;
  const Deadline until = Deadline::after(step.now, state.round.plan.config.failure_pause);
  const RoundPhase left = std::exchange(state.round.phase, Failed{Error{Errc::refused, why}, until});
  finish_tasks(step, left);
  std::vector<ContentId> contents;
  for (const UpdateRecord& update : pending_updates(left)) {
    give_verdict(step, update, refused ? Reason::candidate_refused : Reason::round_failed, 0);
    contents.push_back(update.content);
  }
  if (const CandidateBuilt* candidate = candidate_of(left)) {
    contents.insert(contents.end(), {candidate->snapshot, candidate->master, candidate->optimizer_state});
  }
  step.erase_unreferenced(contents);
  const RoundNumber number = state.round.plan.round;
  const char* event = refused ? "candidate_refused" : "round_failed";
  step.audit(coordinator_actor, event, {{"round", number}, {"reason", why}});
  step.notice(Level::warning, event, "", {{"round", std::to_string(number)}, {"detail", why}});
  close_round(step, refused ? "refused" : "failed", why);
  if (refused) {
    ++state.schedule.refusals;
    put_schedule(step);
    if (state.schedule.refusals >= state.round.plan.config.refusals_max) {
      return stop_schedule(step, std::to_string(state.schedule.refusals) +
                                     " candidates in a row were refused, the last one because " + why);
    }
  }
  reply_to_waiters(step, number);
}

void end_failed_work(Step& step, const std::string& what, const Error& error) {
  Schedule& schedule = step.state.schedule;
  ++schedule.failures;
  put_schedule(step);
  end_round(step, Ending::failed, what + ": " + error.detail);
  if (schedule.failures < step.state.round.plan.config.refusals_max) return;
  stop_schedule(step, std::to_string(schedule.failures) +
                          " rounds have failed in aggregation or publication since the last version, the "
                          "last one because " +
                          error.detail);
}

void give_up_for_room(Step& step) {
  const RoundPhase& phase = step.state.round.phase;
  const Error full{
      Errc::storage_full,
      "its updates and the versions that are kept fill the quota: raise blob_quota_mib, or lower "
      "cohort or versions_kept"};
  const auto* aggregating = std::get_if<Aggregating>(&phase);
  if (aggregating != nullptr && !aggregating->requested) return end_failed_work(step, "aggregation", full);
  const auto* publishing = std::get_if<Publishing>(&phase);
  if (publishing != nullptr && !publishing->asked && publishing->not_before.passed(step.now))
    return end_failed_work(step, "publication", full);
  const auto* training = std::get_if<Training>(&phase);
  const auto* gating = std::get_if<Gating>(&phase);
  if ((training != nullptr && training->deadline.passed(step.now)) ||
      (gating != nullptr && gating->deadline.passed(step.now)))
    end_round(step, Ending::failed, full.detail);
}

}  // namespace rivulet::coordinator
