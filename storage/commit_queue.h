#pragma once

#include <iterator>
#include <utility>
#include <vector>

#include "protocol/assert.h"
#include "storage/write.h"

namespace rivulet {

/// Keeps the promise that an effect is released only after the writes of its transition, and of all
/// before it, are durable, while one sync serves many transitions (group commit). The driver applies
/// transitions to the state at once and pushes what they gave; whenever no commit is in flight it
/// starts one. Pure: who commits, and on which thread, is the driver's business.
template <typename Effect>
class CommitQueue {
 public:
  void push(WriteBatch writes, std::vector<Effect> effects) {
    move_to(writes, waiting_writes_);
    move_to(effects, waiting_effects_);
  }

  /// Whether start() has something to do.
  [[nodiscard]] bool ready() const {
    return !in_flight_ && (!waiting_writes_.empty() || !waiting_effects_.empty());
  }

  /// Takes all that waits. @return what to commit, synced, before finish(); may be empty, then there is
  /// nothing to wait for.
  WriteBatch start() {
    RIVULET_ASSERT(!in_flight_);
    in_flight_ = true;
    flying_effects_ = std::exchange(waiting_effects_, {});
    return std::exchange(waiting_writes_, {});
  }

  /// The writes of start() are durable. @return the effects to carry out now, in order.
  std::vector<Effect> finish() {
    RIVULET_ASSERT(in_flight_);
    in_flight_ = false;
    return std::exchange(flying_effects_, {});
  }

  [[nodiscard]] bool in_flight() const { return in_flight_; }

 private:
  template <typename T>
  static void move_to(std::vector<T>& from, std::vector<T>& to) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  }

  WriteBatch waiting_writes_;
  std::vector<Effect> waiting_effects_;
  std::vector<Effect> flying_effects_;
  bool in_flight_ = false;
};

}  // namespace rivulet
