#pragma once

#include <chrono>
#include <optional>

namespace rivulet::http {

/// Until when a thread polls for the next request in place of sleeping: waking a core that halted takes
/// longer than a small answer does, above all on virtual machines. It polls only behind an answer, and only
/// while requests have been coming as soon as that: a client that asks now and then costs nothing. @see the
/// halt polling of Linux's KVM, which adapts alike.
class BusyPoll {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// @param longest that is polled at a time; 0: never.
  explicit BusyPoll(std::chrono::microseconds longest) : longest_(longest) {}

  /// An answer has gone out.
  void on_answer(Time now) { answered_ = now; }
  /// A request has come.
  void on_request(Time now) {
    if (answered_) is_quick_ = now - *answered_ <= longest_;
    answered_.reset();
  }
  /// @return no time, or one that has passed, if it is better to sleep.
  [[nodiscard]] std::optional<Time> until() const {
    if (!is_quick_ || !answered_) return std::nullopt;
    return *answered_ + longest_;
  }

 private:
  std::chrono::microseconds longest_;
  std::optional<Time> answered_;  // Behind it no request has come.
  bool is_quick_ = false;         // The last request came soon behind an answer.
};

}  // namespace rivulet::http
