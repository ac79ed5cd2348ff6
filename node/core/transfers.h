#pragma once

#include <optional>
#include <vector>

#include "node/core/turn.h"

/// Which content the agent wants, one piece at a time. What is wanted follows from tasks and assignment
/// alone, so nothing is forgotten or fetched in vain when they change.
namespace rivulet::node {

struct Need {
  ContentId content;
  std::uint64_t max_bytes = 0;
  bool want_bytes = false;  ///< A release that is not verified yet.
};

/// Adds what is missing of a version: release, then w_0 and snapshot once the release is known.
void add_needs(const State& state, const VersionManifest& manifest, std::vector<Need>& needs);
void add_need(const State& state, const ContentId& content, std::uint64_t bytes, std::vector<Need>& needs);

void on_content_received(Turn& turn, const event::ContentReceived& event);
void on_content_failed(Turn& turn, const event::ContentFailed& event);

/// Takes content that the disk has damaged for missing.
void forget_damaged(Turn& turn, const std::vector<ContentId>& contents);
/// Removes content that was never a need, such as a delta, unless something else refers to it.
void drop_if_unreferenced(Turn& turn, const ContentId& content);
/// Forgets releases and content that nothing refers to any more.
void collect_garbage(Turn& turn);
/// Asks for the first content that is missing, if a connection is there.
void settle_transfers(Turn& turn);
/// A new connection: what is wanted is asked for again.
void restart_transfers(State& state);
std::optional<MonotonicTime> transfers_deadline(const State& state);

}  // namespace rivulet::node
