#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "protocol/codec/codec.h"
#include "tests/hostile/world.h"

namespace rivulet {

/// Of the model whose rounds these are.
constexpr std::size_t entries = 9;
/// A delta that nobody has anything against.
inline const std::vector<float> fair(entries, 0.5F);

/// A delta as it is sent.
Bytes encoded(Codec codec, const std::vector<float>& delta);

/// A fleet of `cohort` nodes whose round closes with the `goal`-th accepted update.
struct InvitedRound {
  InvitedRound(std::uint32_t cohort, std::uint32_t goal, Codec codec);
  Peer& peer(std::size_t i) { return *peers.at(i); }
  /// What the i-th node says of a content.
  UpdateHeader header(std::size_t i, ByteSpan content, std::uint64_t samples = 10);

  HostileWorld world;
  std::vector<std::unique_ptr<Peer>> nodes;
  std::vector<Peer*> peers;
  std::vector<message::Task> tasks;
};

/// The peer's next receipt says so, and its session goes on.
void refused(Peer& peer, Reason reason);
/// The peer's next receipt says so.
void accepted(Peer& peer);

}  // namespace rivulet
