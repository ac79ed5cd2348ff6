#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "protocol/now.h"

namespace rivulet::sim {

/// Virtual time: actions happen in the order of their times, equal times in the order of asking. Nothing
/// waits for real.
class EventLoop {
 public:
  using Action = std::function<void()>;

  void at(MonotonicTime time, Action action);
  void after(MonotonicTime delay, Action action) { at(now_ + delay, std::move(action)); }
  /// Moves on to the next action and does it. @return false if there is none.
  bool run_one();
  [[nodiscard]] MonotonicTime now() const { return now_; }
  [[nodiscard]] std::uint64_t actions() const { return next_; }

 private:
  struct Entry {
    MonotonicTime time;
    std::uint64_t sequence;
    Action action;
    bool operator>(const Entry& other) const {
      return time != other.time ? time > other.time : sequence > other.sequence;
    }
  };

  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue_;
  MonotonicTime now_{};
  std::uint64_t next_ = 0;
};

}  // namespace rivulet::sim
