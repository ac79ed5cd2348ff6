#include <algorithm>
#include <cmath>
#include <set>

#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"
#include "protocol/rng.h"

namespace rivulet::coordinator {
namespace {

using effect::Level;
using message::ReceiptOutcome;
using message::TaskType;

/// Tells the draws of evaluators from the other draws of their round.
constexpr std::uint64_t evaluators_label = 2;

bool asks_nodes(const RoundPlan& plan) {
  return plan.validation.mode == ValidationMode::federated || plan.validation.mode == ValidationMode::both;
}

bool asks_for_score(const RoundPlan& plan) {
  const bool gates = plan.has_holdout && plan.validation.mode != ValidationMode::federated &&
                     plan.validation.mode != ValidationMode::none;
  return gates || plan.has_test;
}

/// As for training: some of those asked won't answer.
std::size_t evaluators_asked(const RoundPlan& plan) {
  return static_cast<std::size_t>(std::ceil(plan.validation.evaluators * plan.config.over_selection - 1e-9));
}

std::set<PublicKey> trainers_of(const Gating& phase) {
  std::set<PublicKey> keys;
  for (const UpdateRecord& update : phase.sealed.updates) keys.insert(update.node);
  return keys;
}

std::size_t declined_count(const Gating& phase) {
  return static_cast<std::size_t>(
      std::ranges::count_if(phase.evaluators, [](const auto& entry) { return bool(entry.second.declined); }));
}

bool may_evaluate(const Node& node) {
  return node.record.state == NodeState::active && node.ready && !node.task && node.holdout_samples > 0;
}

/// Whether too few nodes are here to keep those who train and those who judge apart. Members that are away
/// do not count: they can do neither.
bool may_overlap(const State& state) { return state.fleet.active_ready < state.config.limits.overlap_below; }

void invite(Step& step, Gating& phase, Node& node) {
  const State& state = step.state;
  const TaskRecord task{task_id(state.trust.fleet, state.round.plan.round, node.record.key,
                                TaskType::evaluate, phase.sealed.attempt),
                        node.record.key, state.round.plan.round, TaskType::evaluate, std::nullopt};
  if (phase.evaluators.contains(task.id)) return;  // One that declined is not asked again.
  phase.evaluators[task.id] = task;
  node.task = task.id;
  step.put("tasks", task.id.span(), to_json(task));
  if (auto message = task_message(state, node, step.now)) step.send(node, std::move(*message));
}

/// Asks `wanted` nodes that were not asked before, or as many as there are.
void invite_evaluators(Step& step, Gating& phase, std::size_t wanted) {
  State& state = step.state;
  const RoundPlan& plan = state.round.plan;
  const std::set<PublicKey> trainers = trainers_of(phase);
  std::set<PublicKey> asked;
  for (const auto& [task, record] : phase.evaluators) asked.insert(record.node);
  std::vector<PublicKey> apart;
  std::vector<PublicKey> trained;
  for (const auto& [key, node] : state.fleet.nodes) {
    if (!may_evaluate(node) || asked.contains(key)) continue;
    (trainers.contains(key) ? trained : apart).push_back(key);
  }
  const std::uint64_t seed =
      derive_seed(derive_seed(state.seed, plan.round), evaluators_label + phase.sealed.attempt);
  std::vector<PublicKey> chosen = draw(std::move(apart), wanted, seed);
  if (chosen.size() < wanted && may_overlap(state)) {
    for (const PublicKey& key : draw(std::move(trained), wanted - chosen.size(), seed)) chosen.push_back(key);
  }
  for (const PublicKey& key : chosen) invite(step, phase, *state.fleet.find(key));
}

std::optional<Refusal> judge_report(const EvaluationReport& report, const State& state, const Gating* phase,
                                    const Node& node) {
  const PublicKey& key = node.record.key;
  if (report.fleet != state.trust.fleet)
    return Refusal{Reason::wrong_fleet, "the report is for another fleet"};
  if (report.node != key)
    return Refusal{Reason::bad_signature, "the report names another node than the one that signed it"};
  if (phase == nullptr) return Refusal{Reason::round_closed, "no candidate is being judged"};
  const auto task = phase->evaluators.find(report.task);
  if (task == phase->evaluators.end())
    return Refusal{Reason::unknown_task, "no open evaluation is " + report.task.hex()};
  if (task->second.node != key)
    return Refusal{Reason::not_your_task, "the evaluation was given to another node"};
  if (report.parent_hash != state.round.plan.base_hash ||
      report.candidate_hash != phase->candidate.weights_hash) {
    return Refusal{Reason::stale_base, "the report compares other weights than those of its task"};
  }
  for (const std::uint64_t count :
       {report.both_right, report.parent_only, report.candidate_only, report.both_wrong}) {
    if (count > report_count_max)
      return Refusal{Reason::bad_report, "it counts more samples than a node can have"};
  }
  if (report.samples() == 0) return Refusal{Reason::bad_report, "it counts no samples"};
  if (!std::isfinite(report.parent_loss_sum))
    return Refusal{Reason::bad_report, "its loss of the parent is not finite"};
  return std::nullopt;
}

PairedCounts counts_of(const EvaluationReport& report) {
  return {report.both_right, report.parent_only,     report.candidate_only,
          report.both_wrong, report.parent_loss_sum, report.candidate_loss_sum};
}

/// Whether two reports say the same. A sum that is not finite equals any other such sum: it is read back from
/// the store as NaN, whatever it was.
bool is_same(PairedCounts a, PairedCounts b) {
  for (const auto sum : {&PairedCounts::parent_loss_sum, &PairedCounts::candidate_loss_sum}) {
    if (!std::isfinite(a.*sum) && !std::isfinite(b.*sum)) a.*sum = b.*sum = 0;
  }
  return a == b;
}

std::vector<PairedCounts> reports_of(const Gating& phase) {
  std::vector<PairedCounts> reports;
  for (const auto& [task, record] : phase.evaluators) {
    if (record.report) reports.push_back(*record.report);
  }
  return reports;
}

/// Whether the nodes have said what they will say.
bool nodes_done(const State& state, const Gating& phase) {
  const RoundPlan& plan = state.round.plan;
  if (!asks_nodes(plan)) return true;
  const std::size_t declined = declined_count(phase);
  const bool all_reported = phase.reports + declined == phase.evaluators.size();
  // Who declined was replaced, if anybody could be asked: what is missing now does not come by waiting.
  if (all_reported && declined > 0) return true;
  if (phase.reports < plan.validation.evaluators && !all_reported) return false;
  if (phase.reports < plan.validation.evaluators_min) return false;
  // Few reports, or small ones: more may come as long as somebody was not asked.
  const FederatedResult result = combine(reports_of(phase), plan.validation);
  return result.samples >= static_cast<double>(plan.validation.holdout_min) ||
         (all_reported && phase.evaluators.size() >= state.fleet.active);
}

void leave(Step& step, Gating phase, const GateDecision& decision) {
  step.state.round.summary.metrics = decision.metrics;
  for (const auto& [task, record] : phase.evaluators) finish_task(step, task, record.node);
  step.notice(Level::info, "gate_passed", "",
              {{"round", std::to_string(step.state.round.plan.round)}, {"detail", decision.why}});
  enter_publishing(step, std::move(phase.sealed), std::move(phase.candidate), decision.metrics);
}

}  // namespace

void enter_gating(Step& step, SealedSet sealed, CandidateBuilt candidate) {
  Round& round = step.state.round;
  round.summary.state = "gating";
  round.phase = Gating{std::move(sealed),
                       std::move(candidate),
                       Deadline::after(step.now, round.plan.validation.deadline),
                       {},
                       0,
                       std::nullopt,
                       false};
  put_round(step);
  if (asks_nodes(round.plan)) {
    invite_evaluators(step, std::get<Gating>(round.phase), evaluators_asked(round.plan));
  }
}

void consider_evaluator(Step& step, Node& node) {
  State& state = step.state;
  auto* phase = std::get_if<Gating>(&state.round.phase);
  if (phase == nullptr || !asks_nodes(state.round.plan) || !may_evaluate(node)) return;
  if (state.storage_full || state.storage_failed) return;
  if (phase->evaluators.size() - declined_count(*phase) >= evaluators_asked(state.round.plan)) return;
  const bool trained = std::ranges::find(phase->sealed.updates, node.record.key, &UpdateRecord::node) !=
                       phase->sealed.updates.end();
  if (trained && !may_overlap(state)) return;
  invite(step, *phase, node);
}

void replace_evaluator(Step& step, Gating& phase) {
  const RoundPlan& plan = step.state.round.plan;
  if (phase.reports >= plan.validation.evaluators) return;
  const std::size_t hoped_for = phase.evaluators.size() - declined_count(phase);
  if (hoped_for < evaluators_asked(plan)) invite_evaluators(step, phase, evaluators_asked(plan) - hoped_for);
}

void on_evaluation(Step& step, Node& node, const Envelope& envelope) {
  State& state = step.state;
  const auto refuse = [&](const TaskId& task, const Refusal& refusal) {
    step.notice(Level::warning, "report_refused", std::string(name(refusal.reason)),
                {{"node", node.record.key.hex()}, {"task", task.hex()}, {"detail", refusal.detail}});
    const bool duplicate = refusal.reason == Reason::duplicate_content;
    send_receipt(step, node, task, duplicate ? ReceiptOutcome::duplicate : ReceiptOutcome::refused,
                 refusal.reason, refusal.detail);
  };
  if (!verify_payload(node.record.key, Context::evaluation, envelope.payload, envelope.signature)) {
    return refuse(TaskId{}, {Reason::bad_signature, "the report is not signed by this node's key"});
  }
  const auto report = decode_evaluation_report(envelope.payload);
  if (!report)
    return refuse(TaskId{}, {Reason::malformed_frame, "evaluation report: " + report.error().detail});
  auto* phase = std::get_if<Gating>(&state.round.phase);
  if (const auto refusal = judge_report(*report, state, phase, node)) return refuse(report->task, *refusal);

  TaskRecord& task = phase->evaluators.at(report->task);
  const PairedCounts counts = counts_of(*report);
  if (task.report && !is_same(*task.report, counts)) {
    return refuse(report->task,
                  {Reason::duplicate_content, "the task has a report already: a task takes one"});
  }
  if (task.declined) return refuse(report->task, {Reason::round_closed, "the node declined the task"});
  if (!task.report) {
    task.report = counts;
    ++phase->reports;
    if (node.task == task.id) node.task.reset();
    step.put("tasks", task.id.span(), to_json(task));
  }
  send_receipt(step, node, report->task, ReceiptOutcome::accepted, Reason::none, "");
}

void on(Step& step, const event::CandidateScored& event) {
  auto* phase = std::get_if<Gating>(&step.state.round.phase);
  if (phase == nullptr || step.state.round.plan.round != event.round ||
      phase->sealed.attempt != event.attempt)
    return;
  phase->score = Gating::Score{event.parent_central, event.candidate_central, event.candidate_test};
}

bool advance(Step& step, Gating& phase) {
  const State& state = step.state;
  const RoundPlan& plan = state.round.plan;
  if (asks_for_score(plan) && !phase.score_requested) {
    phase.score_requested = true;
    const VersionManifest& parent = state.registry.find(plan.base)->manifest;
    step.emit(effect::ScoreCandidate{plan.round, phase.sealed.attempt, plan.release, plan.base, parent.form,
                                     parent.snapshot, phase.candidate.snapshot});
  }
  const bool scored = !asks_for_score(plan) || phase.score;
  if (!phase.deadline.passed(step.now) && !(scored && nodes_done(state, phase))) return false;

  const std::vector<PairedCounts> reports = reports_of(phase);
  const TaskKind task = state.registry.releases.at(plan.release).release.task;
  GateEvidence evidence{reports, plan.has_holdout, {}, {}, {}, task};
  if (phase.score) {
    evidence.parent_central = phase.score->parent_central;
    evidence.candidate_central = phase.score->candidate_central;
    evidence.candidate_test = phase.score->candidate_test;
  }
  const GateDecision decision = decide(evidence, plan.validation);
  if (decision.outcome == GateOutcome::publish) {
    leave(step, std::move(phase), decision);
    return true;
  }
  step.state.round.summary.metrics = decision.metrics;
  end_round(step, decision.outcome == GateOutcome::refuse ? Ending::refused : Ending::failed,
            decision.why + declined_words(step.state.round.phase));
  return true;
}

}  // namespace rivulet::coordinator
