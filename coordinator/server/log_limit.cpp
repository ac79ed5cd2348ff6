#include "coordinator/server/log_limit.h"

#include <algorithm>

namespace rivulet::coordinator {

bool LogLimit::admit(std::string_view name, MonotonicTime now) {
  const auto known = events_.find(name);
  Event& event = known != events_.end() ? known->second : events_[std::string(name)];
  const MonotonicTime begun = std::max(event.full_at, now);
  if (begun - now <= std::chrono::seconds(burst - 1)) {
    event.full_at = begun + std::chrono::seconds(1);
    return true;
  }
  if (event.left_out++ == 0) event.tell_at = now + interval;
  return false;
}

std::vector<LogLimit::LeftOut> LogLimit::take_due(MonotonicTime now) {
  std::vector<LeftOut> due;
  for (auto& [name, event] : events_) {
    if (event.left_out == 0 || event.tell_at > now) continue;
    due.push_back({name, std::exchange(event.left_out, 0)});
  }
  return due;
}

std::optional<MonotonicTime> LogLimit::next() const {
  std::optional<MonotonicTime> next;
  for (const auto& [name, event] : events_) {
    if (event.left_out != 0) next = std::min(next.value_or(event.tell_at), event.tell_at);
  }
  return next;
}

}  // namespace rivulet::coordinator
