#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <vector>

#include "node/core/effects.h"
#include "node/core/events.h"
#include "node/core/state.h"
#include "protocol/now.h"
#include "storage/write.h"

/// Everything that a node decides about its coordinator, as a pure state machine.
///
/// The driver applies transitions at once in memory, commits the writes of several in one synced batch,
/// and then carries out their effects, in order: a crash loses a suffix of transitions with their
/// effects. After a crash or a stop: recover() from the records, start(), and sweep blobs that
/// referenced_contents() does not name.
namespace rivulet::node {

struct Transition {
  WriteBatch writes;
  std::vector<Effect> effects;
};

/// After recover(): restores the model in service and connects.
Transition start(State& state, Now now);

/// Late, repeated and unexpected events are ignored, never an error.
Transition step(State& state, const Event& event, Now now);

/// When to send event::Tick, if nothing happens before.
std::optional<MonotonicTime> next_deadline(const State& state);

/// Whether what effect::Activate asked for is to serve: to be asked right before it is swapped in, with no
/// event between that and ActivationDone. Not any more if a newer assignment takes a version back that is
/// tried.
bool wants_activation(const State& state, std::uint64_t manifest_version);

/// Content that a record refers to, including deltas that await their receipt, and what is being fetched.
std::set<ContentId> referenced_contents(const State& state);

/// For the command line and the API: link, trust, serves, previous, pending, tasks, outbox, ended.
nlohmann::json status(const State& state, Now now);

}  // namespace rivulet::node
