#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/now.h"

namespace rivulet::coordinator {

/// Keeps what anybody may cause from filling the disk by way of the log: of each event `burst` lines at once,
/// and one a second after that. What is left out is counted, and told every `interval`. Pure.
class LogLimit {
 public:
  static constexpr int burst = 30;
  static constexpr std::chrono::seconds interval{10};

  struct LeftOut {
    std::string event;
    std::uint64_t lines = 0;
  };

  /// Whether a line of this event may be written; it counts as left out if not.
  bool admit(std::string_view event, MonotonicTime now);
  /// What is to be told of now.
  std::vector<LeftOut> take_due(MonotonicTime now);
  /// When there will be something; nothing if no line was left out.
  [[nodiscard]] std::optional<MonotonicTime> next() const;

 private:
  struct Event {
    MonotonicTime full_at{};  // When `burst` lines may be written again, if none is until then.
    std::uint64_t left_out = 0;
    MonotonicTime tell_at{};
  };
  std::map<std::string, Event, std::less<>> events_;
};

}  // namespace rivulet::coordinator
