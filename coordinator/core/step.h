#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coordinator/core/coordinator.h"

/// For this folder's sources only.
namespace rivulet::coordinator {

/// One step in the making: the state, which changes at once, and what is to be written and done.
struct Step {
  State& state;
  Now now;
  Transition out;

  using Fields = std::vector<std::pair<std::string, std::string>>;

  void put(std::string_view family, ByteSpan key, const nlohmann::json& value);
  void erase(std::string_view family, ByteSpan key);
  void emit(Effect effect) { out.effects.push_back(std::move(effect)); }
  void send(SessionId session, Message message);
  /// To the node's session, if it is ready; at its next Ready it learns what it missed.
  void send(const Node& node, Message message);
  void reply(RequestId request, Result<nlohmann::json> result);
  void notice(effect::Level level, std::string event, std::string reason, Fields fields);
  void audit(std::string_view actor, std::string_view event, nlohmann::json details);
  /// Erases those of these contents that nothing refers to (any more).
  void erase_unreferenced(const std::vector<ContentId>& contents);
};

/// Visits every content that the state refers to; some twice, zero where there is none.
void visit_contents(const State& state, const std::function<void(const ContentId&)>& visit);

inline constexpr std::string_view operator_actor = "operator";
inline constexpr std::string_view coordinator_actor = "coordinator";
/// The name under which a node acts in the audit log.
std::string node_actor(const PublicKey& key);

// Keeps the counts of active and ready nodes right.
void set_ready(Fleet& fleet, Node& node, bool ready);
void set_node_state(Fleet& fleet, Node& node, NodeState state);
void set_session(Fleet& fleet, Node& node, SessionId session);
void put_node(Step& step, const Node& node);

}  // namespace rivulet::coordinator
