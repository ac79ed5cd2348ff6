#include <algorithm>

#include "coordinator/core/handlers.h"
#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"
#include "coordinator/core/views.h"

namespace rivulet::coordinator {
namespace {

using effect::Level;
using nlohmann::json;

std::unexpected<Error> unknown_node(const PublicKey& key) {
  return fail(Errc::not_found, "no node has the key " + key.hex() + ": see `rivulet nodes`");
}

json node_json(const Node& node) {
  return {{"key", node.record.key.hex()},
          {"state", std::string(name(node.record.state))},
          {"tags", node.record.tags}};
}

/// A change of a node's state, told and recorded.
void change_state(Step& step, Node& node, NodeState to, const char* event) {
  set_node_state(step.state.fleet, node, to);
  put_node(step, node);
  step.audit(operator_actor, event, {{"node", node.record.key.hex()}});
  step.notice(Level::info, event, "", {{"node", node.record.key.hex()}});
}

}  // namespace

void on(Step& step, const event::CreateToken& event) {
  if (event.uses == 0) return step.reply(event.request, fail(Errc::invalid, "uses must be at least 1"));
  if (event.expires <= step.now.utc)
    return step.reply(event.request, fail(Errc::invalid, "the token would have expired"));
  if (step.state.fleet.tokens.contains(event.secret_hash)) {
    return step.reply(event.request, fail(Errc::conflict, "a token with this secret exists: try again"));
  }
  const TokenRecord token{event.secret_hash, step.now.utc, event.expires, event.uses, 0};
  step.state.fleet.tokens[event.secret_hash] = token;
  step.put("tokens", event.secret_hash.span(), to_json(token));
  step.audit(
      operator_actor, "token_created",
      {{"token", event.secret_hash.hex()}, {"expires", to_rfc3339(event.expires)}, {"uses", event.uses}});
  step.reply(event.request, json{{"expires", to_rfc3339(event.expires)}, {"uses", event.uses}});
}

void on(Step& step, const event::RevokeToken& event) {
  const auto token = step.state.fleet.tokens.extract(event.secret_hash);
  if (token.empty()) {
    return step.reply(event.request, fail(Errc::not_found, "there is no token " + event.secret_hash.hex() +
                                                               ": see `rivulet token list`"));
  }
  step.erase("tokens", event.secret_hash.span());
  step.audit(operator_actor, "token_revoked",
             {{"token", event.secret_hash.hex()}, {"used", token.mapped().used}});
  step.reply(event.request, json{{"id", event.secret_hash.hex()}, {"used", token.mapped().used}});
}

void on(Step& step, const event::RevokeNode& event) {
  Node* node = step.state.fleet.find(event.key);
  if (node == nullptr) return step.reply(event.request, unknown_node(event.key));
  if (node->record.state != NodeState::revoked) {
    change_state(step, *node, NodeState::revoked, "node_revoked");
    const SessionId session = node->session;
    set_session(step.state.fleet, *node, 0);
    withdraw_task(step, *node, Reason::revoked);
    exclude_from_round(step, event.key);
    if (session != 0) step.emit(effect::Close{session, Reason::revoked, "this node was revoked"});
  }
  step.reply(event.request, node_json(*node));
}

void on(Step& step, const event::QuarantineNode& event) {
  Node* node = step.state.fleet.find(event.key);
  if (node == nullptr) return step.reply(event.request, unknown_node(event.key));
  if (node->record.state == NodeState::revoked) {
    return step.reply(event.request, fail(Errc::conflict, "the node is revoked, which is for good"));
  }
  if (node->record.state != NodeState::quarantined) {
    change_state(step, *node, NodeState::quarantined, "node_quarantined");
    withdraw_task(step, *node, Reason::quarantined);
  }
  step.reply(event.request, node_json(*node));
}

void on(Step& step, const event::ReleaseNode& event) {
  Node* node = step.state.fleet.find(event.key);
  if (node == nullptr) return step.reply(event.request, unknown_node(event.key));
  if (node->record.state == NodeState::revoked) {
    return step.reply(event.request, fail(Errc::conflict, "the node is revoked, which is for good"));
  }
  if (node->record.state != NodeState::active) change_state(step, *node, NodeState::active, "node_released");
  step.reply(event.request, node_json(*node));
}

void on(Step& step, const event::TagNode& event) {
  Node* node = step.state.fleet.find(event.key);
  if (node == nullptr) return step.reply(event.request, unknown_node(event.key));
  std::vector<std::string> tags = event.tags;
  std::ranges::sort(tags);
  const auto twice = std::ranges::unique(tags);
  tags.erase(twice.begin(), twice.end());
  for (const std::string& tag : tags) {
    const Status status = check_name(tag, "tag");
    if (!status) return step.reply(event.request, std::unexpected(status.error()));
  }
  if (tags != node->record.tags) {
    node->record.tags = tags;
    put_node(step, *node);
    step.audit(operator_actor, "node_tagged", {{"node", event.key.hex()}, {"tags", tags}});
  }
  step.reply(event.request, node_json(*node));
}

void on(Step& step, const event::StartRounds& event) {
  State& state = step.state;
  if (event.count == 0) return step.reply(event.request, fail(Errc::invalid, "count must be at least 1"));
  if (state.shutting_down)
    return step.reply(event.request, fail(Errc::cancelled, "the coordinator shuts down"));
  if (const Status status = may_publish(state, step.now); !status) {
    return step.reply(event.request, std::unexpected(status.error()));
  }
  Schedule& schedule = state.schedule;
  schedule.until = std::max(schedule.until, schedule.last_started);
  const RoundNumber first = schedule.until + 1;
  schedule.until += event.count;
  schedule.refusals = 0;
  schedule.failures = 0;
  schedule.stopped.clear();
  step.put("meta", bytes_of("schedule"), to_json(schedule));
  step.audit(operator_actor, "rounds_scheduled", {{"first", first}, {"last", schedule.until}});
  if (event.wait) {
    state.waiters.push_back({event.request, first, schedule.until});
  } else {
    step.reply(event.request, json{{"first", first}, {"last", schedule.until}});
  }
}

void on(Step& step, const event::TrustChanged& event) {
  State& state = step.state;
  const auto document = follow_trust(TrustAnchor{state.trust.root, state.trust}, {event.trust}, step.now.utc);
  if (!document) return step.reply(event.request, std::unexpected(document.error()));
  if (document->version > state.trust.version) {
    state.trust = *document;
    state.trust_chain.push_back(event.trust);
    Bytes key = copy_of(bytes_of("trust/"));
    append_number(key, document->version);
    step.put("meta", key, to_json(event.trust));
    step.emit(effect::ServeTrust{event.trust});
    step.audit(operator_actor, "trust_changed",
               {{"version", document->version},
                {"expires", to_rfc3339(document->expires)},
                {"coordinator", document->coordinator.hex()}});
    step.notice(Level::info, "trust_changed", "", {{"version", std::to_string(document->version)}});
  }
  step.reply(event.request,
             json{{"version", state.trust.version}, {"expires", to_rfc3339(state.trust.expires)}});
}

void on(Step&, const event::Tick&) {}

void on(Step& step, const event::StorageState& event) {
  State& state = step.state;
  const bool was_stopped = state.storage_full || state.storage_failed;
  state.storage_full = event.full;
  state.storage_failed = state.storage_failed || event.failed;
  const bool stopped = state.storage_full || state.storage_failed;
  if (stopped && event.over_quota) give_up_for_room(step);
  if (stopped == was_stopped) return;
  if (stopped) {
    step.notice(Level::error, "rounds_paused", state.storage_failed ? "storage_failed" : "storage_full", {});
  } else {
    step.notice(Level::info, "rounds_resumed", "", {});
  }
}

void on(Step& step, const event::ShuttingDown&) {
  State& state = step.state;
  state.shutting_down = true;
  const auto retry_after = static_cast<std::uint32_t>(state.config.limits.shutdown_backoff.count());
  for (auto& [key, node] : state.fleet.nodes) {
    if (node.session == 0) continue;
    step.send(node.session, message::Backoff{Reason::shutting_down, retry_after});
    step.emit(effect::Close{node.session, Reason::shutting_down, "the coordinator shuts down"});
    set_session(state.fleet, node, 0);
  }
  for (const Waiter& waiter : state.waiters) {
    step.reply(waiter.request,
               fail(Errc::cancelled, "the coordinator shuts down; the rounds go on when it is back"));
  }
  state.waiters.clear();
}

}  // namespace rivulet::coordinator
