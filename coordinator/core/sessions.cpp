#include <algorithm>

#include "coordinator/core/handlers.h"
#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"
#include "protocol/sha256.h"

namespace rivulet::coordinator {
namespace {

using effect::Level;

void refuse(Step& step, SessionId session, const char* what, const PublicKey& key, Refusal refusal) {
  step.notice(Level::warning, what, std::string(name(refusal.reason)),
              {{"node", key.hex()}, {"detail", refusal.detail}});
  step.emit(effect::Close{session, refusal.reason, std::move(refusal.detail)});
}

std::optional<Refusal> judge_fleet(const State& state, const FleetId& fleet) {
  if (fleet == state.trust.fleet) return std::nullopt;
  return Refusal{Reason::wrong_fleet,
                 "this coordinator serves fleet " + state.trust.fleet.hex() + ", not " + fleet.hex()};
}

/// Tells the node of updates that it waits for, and of those it does not know were accepted.
void send_verdicts(Step& step, Node& node, const message::Ready& ready) {
  const PublicKey& key = node.record.key;
  message::Verdicts verdicts;
  // It knows the verdicts that it does not ask for.
  const bool runs = !std::holds_alternative<Idle>(step.state.round.phase) &&
                    !std::holds_alternative<Failed>(step.state.round.phase);
  node.told_before = step.state.schedule.last_started + (runs ? 0 : 1);
  node.awaits.clear();
  std::vector<TaskId> unknown;
  const auto add = [&](const TaskId& task, bool must_be_known) {
    if (const UpdateRecord* pending = find_update(step.state.round.phase, task);
        pending && pending->node == key)
      return;
    const auto found = step.state.verdicts.find(task);
    if (found != step.state.verdicts.end() && found->second.node == key) {
      const VerdictRecord& verdict = found->second;
      node.awaits.insert(task);
      verdicts.entries.push_back({task, verdict.outcome, verdict.reason, verdict.version});
    } else if (must_be_known) {
      // None of ours, or one that it knew already: an answer ends the node's waiting.
      unknown.push_back(task);
      verdicts.entries.push_back({task, message::VerdictOutcome::discarded, Reason::unknown_task, 0});
    }
  };
  for (const TaskId& task : ready.awaiting_verdict) add(task, true);
  for (const TaskId& task : ready.open_tasks) add(task, false);
  if (!unknown.empty()) {
    step.notice(
        Level::warning, "verdict_unknown", "unknown_task",
        {{"node", key.hex()}, {"task", unknown.front().hex()}, {"tasks", std::to_string(unknown.size())}});
  }
  if (!verdicts.entries.empty()) step.send(node, std::move(verdicts));
}

/// Brings the tasks that a node says it holds in line with what it should hold.
void settle_tasks(Step& step, const Node& node, const message::Ready& ready) {
  const State& state = step.state;
  for (const TaskId& task : ready.open_tasks) {
    if (node.task == task) continue;
    const UpdateRecord* update = find_update(state.round.phase, task);
    const auto verdict = state.verdicts.find(task);
    const bool accepted = (update != nullptr && update->node == node.record.key) ||
                          (verdict != state.verdicts.end() && verdict->second.node == node.record.key);
    if (accepted) {
      send_receipt(step, node, task, message::ReceiptOutcome::accepted, Reason::none, "");
    } else {
      step.send(node, message::TaskCancelled{task, Reason::round_closed});
    }
  }
  if (auto task = task_message(state, node, step.now)) step.send(node, std::move(*task));
}

/// When the node was last here: not worth waiting for room.
void put_contact(Step& step, const Node& node) {
  if (!step.state.storage_full && !step.state.storage_failed) put_node(step, node);
}

/// Sends a node away that says more than it may. What it said is not looked at, nor what still comes of that
/// session: its node has none any more.
bool throttle(Step& step, Node& node, SessionId session) {
  const LimitsConfig& limits = step.state.config.limits;
  if (node.budget.take(limits, step.now)) return false;
  const auto wait = node.budget.until_half(limits, step.now);
  step.notice(Level::warning, "too_many_messages", std::string(name(Reason::overloaded)),
              {{"node", node.record.key.hex()}, {"retry_after_ms", std::to_string(wait.count())}});
  if (node.session == session) set_session(step.state.fleet, node, 0);
  step.send(session, message::Backoff{Reason::overloaded, static_cast<std::uint32_t>(wait.count())});
  return true;
}

/// The node that may say something in this session; null if there is none.
Node* heard(Step& step, SessionId session) {
  Node* node = step.state.fleet.of_session(session);
  return node == nullptr || throttle(step, *node, session) ? nullptr : node;
}

void send_assignment(Step& step, const Node& node) {
  const VersionNumber wanted = assignment(step.state.registry, node.record.key);
  const VersionRecord* version = step.state.registry.find(wanted);
  if (version == nullptr || version->envelope.empty()) return;
  if (node.serves == wanted && node.manifest_version >= version->manifest.manifest_version) return;
  step.send(node, message::Assignment{version->envelope});
}

}  // namespace

void back_off(Step& step, SessionId session, Reason reason, std::chrono::milliseconds wait) {
  step.notice(Level::warning, "backoff", std::string(name(reason)), {{"session", std::to_string(session)}});
  step.send(session, message::Backoff{reason, static_cast<std::uint32_t>(wait.count())});
}

bool shed(Step& step, SessionId session) {
  const State& state = step.state;
  const LimitsConfig& limits = state.config.limits;
  if (state.shutting_down) {
    back_off(step, session, Reason::shutting_down, limits.shutdown_backoff);
  } else if (state.storage_failed || state.storage_full) {
    back_off(step, session, state.storage_failed ? Reason::storage_failed : Reason::storage_full,
             limits.storage_backoff);
  } else {
    return false;
  }
  return true;
}

void on(Step& step, const event::HelloReceived& event) {
  State& state = step.state;
  if (state.shutting_down) {
    shed(step, event.session);
    return step.emit(effect::Close{event.session, Reason::shutting_down, "the coordinator shuts down"});
  }
  if (auto wrong = judge_fleet(state, event.hello.fleet)) {
    return refuse(step, event.session, "hello_refused", event.key, std::move(*wrong));
  }
  const auto protocol = agree_on_protocol({event.hello.protocol_min, event.hello.protocol_max});
  if (!protocol) return refuse(step, event.session, "hello_refused", event.key, protocol.error());
  Node* node = state.fleet.find(event.key);
  if (node == nullptr) {
    return refuse(step, event.session, "hello_refused", event.key,
                  {Reason::unknown_key, "this key is not in the fleet: join with a token first"});
  }
  if (node->record.state == NodeState::revoked) {
    return refuse(step, event.session, "hello_refused", event.key,
                  {Reason::revoked, "this node was revoked"});
  }
  if (throttle(step, *node, event.session)) return;
  if (node->session != 0 && node->session != event.session) {
    step.notice(Level::info, "session_replaced", std::string(name(Reason::replaced)),
                {{"node", event.key.hex()}});
    step.emit(effect::Close{node->session, Reason::replaced, "the node opened a newer session"});
  }
  set_session(state.fleet, *node, event.session);
  // Written with its Ready, or with its end: the welcome waits for no disk, and a crash may lose it.
  node->record.last_seen = step.now.utc;
  node->record.software = event.hello.software;
  step.emit(effect::SendWelcome{event.session, *protocol,
                                static_cast<std::uint32_t>(state.config.limits.heartbeat.count())});
}

void on(Step& step, const event::EnrolReceived& event) {
  State& state = step.state;
  if (shed(step, event.session)) return;
  if (auto wrong = judge_fleet(state, event.enrol.fleet)) {
    return refuse(step, event.session, "enrolment_refused", event.key, std::move(*wrong));
  }
  const auto protocol = agree_on_protocol({event.enrol.protocol_min, event.enrol.protocol_max});
  if (!protocol) return refuse(step, event.session, "enrolment_refused", event.key, protocol.error());
  const Digest secret_hash = sha256(event.enrol.secret.span());
  const auto enrolment = judge_enrolment(state.fleet, event.key, secret_hash, step.now.utc);
  if (!enrolment) return refuse(step, event.session, "enrolment_refused", event.key, enrolment.error());
  if (*enrolment == Enrolment::enrolled) {
    TokenRecord& token = state.fleet.tokens.at(secret_hash);
    ++token.used;
    step.put("tokens", secret_hash.span(), to_json(token));
    Node& node = state.fleet.nodes[event.key];
    node.record = NodeRecord{event.key,   NodeState::active,   {}, step.now.utc, step.now.utc,
                             secret_hash, event.enrol.software};
    ++state.fleet.active;
    put_node(step, node);
    step.audit(node_actor(event.key), "node_enrolled",
               {{"node", event.key.hex()}, {"token", secret_hash.hex()}});
    step.notice(Level::info, "node_enrolled", "", {{"node", event.key.hex()}});
  }
  step.send(event.session, message::Enrolled{state.trust.name});
}

void on(Step& step, const event::ReadyReceived& event) {
  Node* node = heard(step, event.session);
  // Its answers would wait for room, and so would those of its next session, and of the one after that.
  if (node == nullptr || shed(step, event.session)) return;
  node->serves = event.ready.serves;
  node->manifest_version = event.ready.manifest_version;
  node->samples = event.ready.samples;
  node->holdout_samples = event.ready.holdout_samples;
  if (!node->ready) put_contact(step, *node);
  set_ready(step.state.fleet, *node, true);
  send_assignment(step, *node);
  settle_tasks(step, *node, event.ready);
  send_verdicts(step, *node, event.ready);
  consider_evaluator(step, *node);
}

void on(Step& step, const event::OfferReceived& event) {
  Node* node = heard(step, event.session);
  if (node == nullptr || shed(step, event.session)) return;
  on_offer(step, *node, event.header);
}

void on(Step& step, const event::EvaluationReceived& event) {
  Node* node = heard(step, event.session);
  if (node == nullptr || shed(step, event.session)) return;
  on_evaluation(step, *node, event.report);
}

void on(Step& step, const event::DeclinedReceived& event) {
  Node* node = heard(step, event.session);
  if (node == nullptr || shed(step, event.session)) return;
  on_declined(step, *node, event.declined);
}

void on(Step& step, const event::TelemetryReceived& event) {
  Node* node = heard(step, event.session);
  if (node == nullptr) return;
  node->serves = event.telemetry.serves;
  node->samples = event.telemetry.samples;
  node->holdout_samples = event.telemetry.holdout_samples;
  consider_evaluator(step, *node);
}

void on(Step& step, const event::ActivationReceived& event) {
  Node* node = heard(step, event.session);
  if (node == nullptr) return;
  const message::Activation& activation = event.activation;
  node->manifest_version = std::max(node->manifest_version, activation.manifest_version);
  const bool activated = activation.outcome == Reason::activated;
  if (activated) node->serves = activation.version;
  step.notice(activated ? Level::info : Level::warning,
              activated ? "version_activated" : "version_not_activated",
              activated ? "" : std::string(name(activation.outcome)),
              {{"node", node->record.key.hex()},
               {"version", std::to_string(activation.version)},
               {"detail", activation.detail}});
}

void on(Step& step, const event::SessionClosed& event) {
  Node* node = step.state.fleet.of_session(event.session);
  if (node == nullptr) return;
  set_session(step.state.fleet, *node, 0);
  node->record.last_seen = step.now.utc;
  put_contact(step, *node);
}

void on(Step& step, const event::ContentServed& event) {
  if (!std::holds_alternative<Idle>(step.state.round.phase))
    step.state.round.summary.download_bytes += event.bytes;
}

}  // namespace rivulet::coordinator
