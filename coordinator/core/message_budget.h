#pragma once

#include <chrono>

#include "coordinator/core/config.h"
#include "protocol/now.h"

namespace rivulet::coordinator {

/// What a node may still say: a token bucket of LimitsConfig::messages_burst tokens, one for each message
/// that reaches the core, filled with messages_per_second. Full at first. Pure.
class MessageBudget {
 public:
  /// Takes a token. @return whether there was one.
  bool take(const LimitsConfig& limits, Now now);
  /// Until half of the tokens are there; zero if they are.
  [[nodiscard]] std::chrono::milliseconds until_half(const LimitsConfig& limits, Now now) const;

 private:
  MonotonicTime full_at_{};  // When all tokens are there, if nothing more is said. Tells how many are.
};

}  // namespace rivulet::coordinator
