#pragma once

#include <deque>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "coordinator/core/audit.h"
#include "coordinator/core/config.h"
#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"
#include "coordinator/core/fleet.h"
#include "coordinator/core/registry.h"
#include "coordinator/core/round.h"
#include "protocol/now.h"
#include "protocol/trust.h"
#include "storage/store.h"
#include "storage/write.h"

/// What the coordinator decides: who is a member, who is asked, which update counts, what is published.
/// Pure: events and time in, writes and effects out. Not thread-safe; one owner.
namespace rivulet::coordinator {

/// `round start --wait`: answered when the rounds [first, last] are over or the schedule stops.
struct Waiter {
  RequestId request = 0;
  RoundNumber first = 0;
  RoundNumber last = 0;
};

/// All of it, in memory. Read it freely (views.h); only step() and resume() change it.
struct State {
  Config config;
  std::uint64_t seed = 0;  ///< Of the fleet: every draw comes from it.
  TrustDocument trust;
  std::vector<SignedTrust> trust_chain;  ///< From the first document on; what nodes hear: effect::ServeTrust.
  Fleet fleet;
  Registry registry;
  Round round;
  Schedule schedule;
  AuditHead audit;
  std::deque<RoundSummary> rounds;  ///< Over, the newest last; limits.rounds_listed at most.
  /// Of the last limits.verdict_rounds rounds, and older ones that their nodes may not know.
  std::unordered_map<TaskId, VerdictRecord> verdicts;
  std::deque<std::pair<RoundNumber, std::vector<TaskId>>> verdicts_by_round;
  std::vector<Waiter> waiters;
  bool storage_full = false;
  bool storage_failed = false;
  bool shutting_down = false;
};

/// The families of the store that the core writes.
inline const std::vector<std::string> families = {"nodes",      "tokens",   "tasks",    "rounds",
                                                  "updates",    "verdicts", "releases", "versions",
                                                  "assignment", "audit",    "meta"};

/// The first records of a new fleet. @param trust its first document, signed by its root.
/// @param seed random. @return refused or corrupt if `trust` is not in order.
Result<WriteBatch> found_fleet(const SignedTrust& trust, std::uint64_t seed, Now now);

/// The state that a store holds. Of the audit log the last entry alone is read, and of the rounds those that
/// are listed. @return not_found for a store without a fleet; corrupt, naming family and key; invalid for a
/// bad configuration; or what reading failed with.
Result<State> recover(const Config& config, const Store& store, Now now);

/// Once after recover(): asks again for what a crash interrupted.
Transition resume(State& state, Now now);

Transition step(State& state, const Event& event, Now now);

/// Whether the effects of this transition may be carried out while those before it still wait for their
/// commit, as they tell of nothing that a crash could undo. True of a welcome, so that a slow disk keeps
/// nobody out, and of what sends nodes away while the disk is full; docs/architecture.md says why.
/// @param state after the transition.
bool may_overtake(const State& state, const Transition& transition);

/// When to send a Tick at the latest; nothing while only the world can move things on.
std::optional<MonotonicTime> next_deadline(const State& state);

/// The blobs that must stay; a start-up sweep takes the others.
std::vector<ContentId> referenced_content(const State& state);

}  // namespace rivulet::coordinator
