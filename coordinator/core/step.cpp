#include "coordinator/core/step.h"

#include <set>

#include "coordinator/core/records.h"

namespace rivulet::coordinator {

void Step::put(std::string_view family, ByteSpan key, const nlohmann::json& value) {
  out.writes.push_back(Put{std::string(family), copy_of(key), record_bytes(value)});
}

void Step::erase(std::string_view family, ByteSpan key) {
  out.writes.push_back(Erase{std::string(family), copy_of(key)});
}

void Step::send(SessionId session, Message message) { emit(effect::Send{session, std::move(message)}); }

void Step::send(const Node& node, Message message) {
  if (node.ready) send(node.session, std::move(message));
}

void Step::reply(RequestId request, Result<nlohmann::json> result) {
  emit(effect::Reply{request, std::move(result)});
}

void Step::notice(effect::Level level, std::string event, std::string reason, Fields fields) {
  emit(effect::Notice{level, std::move(event), std::move(reason), std::move(fields)});
}

void Step::audit(std::string_view actor, std::string_view event, nlohmann::json details) {
  const nlohmann::json entry = append_audit(state.audit, now.utc, actor, event, std::move(details));
  out.writes.push_back(Put{"audit", number_key(state.audit.seq), copy_of(bytes_of(audit_text(entry)))});
}

void Step::erase_unreferenced(const std::vector<ContentId>& contents) {
  if (contents.empty()) return;
  std::set<ContentId> left(contents.begin(), contents.end());  // Two nodes may have sent the same bytes.
  left.erase(ContentId{});
  visit_contents(state, [&](const ContentId& content) { left.erase(content); });
  for (const ContentId& content : left) emit(effect::EraseContent{content});
}

std::string node_actor(const PublicKey& key) { return "node:" + key.hex(); }

void set_ready(Fleet& fleet, Node& node, bool ready) {
  if (node.ready != ready && node.record.state == NodeState::active) {
    fleet.active_ready += ready ? 1U : std::size_t(-1);
  }
  node.ready = ready;
}

void set_node_state(Fleet& fleet, Node& node, NodeState state) {
  const auto count = [&](bool in) {
    fleet.active += in ? 1U : std::size_t(-1);
    if (node.ready) fleet.active_ready += in ? 1U : std::size_t(-1);
  };
  if (node.record.state == NodeState::active) count(false);
  node.record.state = state;
  if (node.record.state == NodeState::active) count(true);
}

void set_session(Fleet& fleet, Node& node, SessionId session) {
  set_ready(fleet, node, false);
  if (node.session != 0) fleet.sessions.erase(node.session);
  node.session = session;
  if (session != 0) fleet.sessions[session] = node.record.key;
}

void put_node(Step& step, const Node& node) {
  step.put("nodes", node.record.key.span(), to_json(node.record));
}

}  // namespace rivulet::coordinator
