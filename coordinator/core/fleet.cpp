#include "coordinator/core/fleet.h"

#include <algorithm>

#include "protocol/rng.h"

namespace rivulet::coordinator {

std::string_view name(NodeState state) {
  switch (state) {
    case NodeState::active: return "active";
    case NodeState::quarantined: return "quarantined";
    case NodeState::revoked: return "revoked";
  }
  return "active";
}

Node* Fleet::find(const PublicKey& key) {
  const auto at = nodes.find(key);
  return at == nodes.end() ? nullptr : &at->second;
}

const Node* Fleet::find(const PublicKey& key) const {
  const auto at = nodes.find(key);
  return at == nodes.end() ? nullptr : &at->second;
}

Node* Fleet::of_session(SessionId session) {
  const auto at = sessions.find(session);
  return at == sessions.end() ? nullptr : find(at->second);
}

std::expected<std::uint16_t, Refusal> agree_on_protocol(ProtocolRange theirs, ProtocolRange ours) {
  const std::uint16_t highest = std::min(theirs.max, ours.max);
  if (theirs.min <= theirs.max && highest >= std::max(theirs.min, ours.min)) return highest;
  const auto words = [](ProtocolRange range) {
    return range.min == range.max
               ? "version " + std::to_string(range.min)
               : "versions " + std::to_string(range.min) + " to " + std::to_string(range.max);
  };
  const bool older = theirs.max < ours.min;
  return std::unexpected(Refusal{Reason::unsupported_protocol,
                                 "the node speaks protocol " + words(theirs) + ", this coordinator " +
                                     words(ours) + ": update the " + (older ? "node" : "coordinator")});
}

std::expected<Enrolment, Refusal> judge_enrolment(const Fleet& fleet, const PublicKey& key,
                                                  const Digest& secret_hash, UtcTime utc) {
  const Node* node = fleet.find(key);
  if (node != nullptr && node->record.state == NodeState::revoked) {
    return std::unexpected(
        Refusal{Reason::revoked, "this node's key was revoked: make a new one to join again"});
  }
  if (node != nullptr && node->record.token == secret_hash) return Enrolment::again;
  const auto token = fleet.tokens.find(secret_hash);
  if (token == fleet.tokens.end()) {
    return std::unexpected(
        Refusal{Reason::unknown_token, "the coordinator has no such token (any more): ask for a new one"});
  }
  if (utc >= token->second.expires) {
    return std::unexpected(
        Refusal{Reason::expired_token,
                "the token expired at " + to_rfc3339(token->second.expires) + ": ask for a new one"});
  }
  if (node != nullptr) return Enrolment::again;
  if (token->second.used >= token->second.uses) {
    return std::unexpected(Refusal{Reason::used_token, "the token was good for " +
                                                           std::to_string(token->second.uses) +
                                                           " nodes, which have joined: ask for a new one"});
  }
  return Enrolment::enrolled;
}

std::vector<PublicKey> eligible_trainers(const Fleet& fleet, std::uint64_t samples_min) {
  std::vector<PublicKey> keys;
  for (const auto& [key, node] : fleet.nodes) {
    if (node.record.state == NodeState::active && node.ready && !node.task && node.samples >= samples_min) {
      keys.push_back(key);
    }
  }
  return keys;
}

std::vector<PublicKey> draw(std::vector<PublicKey> pool, std::size_t count, std::uint64_t seed) {
  count = std::min(count, pool.size());
  Rng rng(seed);
  // The first steps of Fisher-Yates: each place takes a uniform one of those left.
  for (std::size_t i = 0; i < count; ++i) std::swap(pool[i], pool[i + uniform_below(rng, pool.size() - i)]);
  pool.resize(count);
  return pool;
}

Result<PublicKey> resolve_node(const Fleet& fleet, std::string_view prefix) {
  std::string digits(prefix);
  std::ranges::transform(digits, digits.begin(),
                         [](char c) { return c >= 'A' && c <= 'F' ? char(c + ('a' - 'A')) : c; });
  if (digits.size() < 8 || digits.size() > 64 ||
      digits.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return fail(Errc::invalid, "'" + std::string(prefix.substr(0, 80)) +
                                   "' is not a node's key: give 8 to 64 of its hex digits");
  }
  const auto low = PublicKey::from_hex(digits + std::string(64 - digits.size(), '0'));
  const auto starts = [&](const auto& at) {
    return at != fleet.nodes.end() && at->first.hex().starts_with(digits);
  };
  auto at = fleet.nodes.lower_bound(*low);
  if (!starts(at)) return fail(Errc::not_found, "no node's key begins with " + digits);
  const PublicKey found = at->first;
  if (starts(++at))
    return fail(Errc::conflict, "several nodes' keys begin with " + digits + ": give more digits");
  return found;
}

}  // namespace rivulet::coordinator
