#include "sim/world/event_loop.h"

#include <algorithm>

namespace rivulet::sim {

void EventLoop::at(MonotonicTime time, Action action) {
  queue_.push({std::max(time, now_), next_++, std::move(action)});
}

bool EventLoop::run_one() {
  if (queue_.empty()) return false;
  // priority_queue gives no mutable top; the entry goes at once, so moving from it harms nobody.
  Entry entry = std::move(const_cast<Entry&>(queue_.top()));
  queue_.pop();
  now_ = entry.time;
  entry.action();
  return true;
}

}  // namespace rivulet::sim
