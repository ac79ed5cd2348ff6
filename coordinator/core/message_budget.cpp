#include "coordinator/core/message_budget.h"

#include <algorithm>

namespace rivulet::coordinator {
namespace {

/// How long one token takes to come.
MonotonicTime interval(const LimitsConfig& limits) {
  return MonotonicTime(std::chrono::seconds(1)) / limits.messages_per_second;
}

}  // namespace

bool MessageBudget::take(const LimitsConfig& limits, Now now) {
  const MonotonicTime full_at = std::max(full_at_, now.monotonic) + interval(limits);
  if (full_at - now.monotonic > interval(limits) * limits.messages_burst) return false;
  full_at_ = full_at;
  return true;
}

std::chrono::milliseconds MessageBudget::until_half(const LimitsConfig& limits, Now now) const {
  const MonotonicTime half = interval(limits) * (limits.messages_burst / 2);
  return std::chrono::ceil<std::chrono::milliseconds>(
      std::max(full_at_ - now.monotonic - half, MonotonicTime::zero()));
}

}  // namespace rivulet::coordinator
