#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "coordinator/core/events.h"
#include "coordinator/core/message_budget.h"
#include "protocol/ids.h"
#include "protocol/limits.h"
#include "protocol/now.h"
#include "protocol/reason.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

enum class NodeState : std::uint8_t {
  active,
  quarantined,  ///< Keeps its session and its assignment; gets no tasks.
  revoked,      ///< Out of the fleet for good.
};
std::string_view name(NodeState state);

/// What is stored of a node.
struct NodeRecord {
  PublicKey key;
  NodeState state = NodeState::active;
  std::vector<std::string> tags;
  UtcTime enrolled;
  UtcTime last_seen;
  Digest token;  ///< The hash of the secret it enrolled with.
  std::string software;

  bool operator==(const NodeRecord&) const = default;
};

/// A node, with what its session told. `session` is 0 while it is not connected.
struct Node {
  NodeRecord record;
  SessionId session = 0;
  bool ready = false;  ///< It sent Ready in this session.
  VersionNumber serves = 0;
  std::uint64_t manifest_version = 0;
  std::uint64_t samples = 0;
  std::uint64_t holdout_samples = 0;
  std::optional<TaskId> task;  ///< The one open task it holds, connected or not.
  /// It knows the verdicts of the rounds before this one, as what it said later shows …
  RoundNumber told_before = 0;
  std::set<TaskId> awaits;  ///< … but for these, which its last Ready asked for.
  MessageBudget budget;     ///< Over all its sessions: a new one gives it nothing.
};

/// A join token; its secret is known by hash alone.
struct TokenRecord {
  Digest secret_hash;
  UtcTime created;
  UtcTime expires;
  std::uint32_t uses = 1;
  std::uint32_t used = 0;

  bool operator==(const TokenRecord&) const = default;
};

/// Everybody who is, was or may become a member. Ordered by key, so that draws repeat.
struct Fleet {
  std::map<PublicKey, Node> nodes;
  std::map<Digest, TokenRecord> tokens;
  std::unordered_map<SessionId, PublicKey> sessions;  ///< Those past Hello.
  std::size_t active = 0;                             ///< Nodes in state active …
  std::size_t active_ready = 0;                       ///< … of which connected and ready.

  Node* find(const PublicKey& key);
  [[nodiscard]] const Node* find(const PublicKey& key) const;
  /// The node whose current session this is, or null.
  Node* of_session(SessionId session);
};

/// What turns a peer away.
struct Refusal {
  Reason reason = Reason::none;
  std::string detail;

  bool operator==(const Refusal&) const = default;
};

/// @param theirs untrusted. @return the protocol version to speak: the highest that both know;
/// unsupported_protocol with both ranges in words.
std::expected<std::uint16_t, Refusal> agree_on_protocol(ProtocolRange theirs, ProtocolRange ours = {});

enum class Enrolment {
  again,     ///< The key is a member already: nothing is used up.
  enrolled,  ///< A new member; the token loses a use.
};
/// Whether `key` may join with the secret of this hash. Pure. @return revoked, unknown_token,
/// expired_token or used_token; a member that shows its own token again is welcome even then.
std::expected<Enrolment, Refusal> judge_enrolment(const Fleet& fleet, const PublicKey& key,
                                                  const Digest& secret_hash, UtcTime utc);

/// The nodes that may train: active, connected and ready, enough samples, without an open task; by key.
std::vector<PublicKey> eligible_trainers(const Fleet& fleet, std::uint64_t samples_min);

/// `count` of `pool` (all, if there are fewer), uniformly, in the order drawn. Same seed, same draw.
std::vector<PublicKey> draw(std::vector<PublicKey> pool, std::size_t count, std::uint64_t seed);

/// The node whose key begins with `prefix`, 8 hex digits or more. @return invalid, not_found, conflict.
Result<PublicKey> resolve_node(const Fleet& fleet, std::string_view prefix);

}  // namespace rivulet::coordinator
