#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "protocol/result.h"

namespace rivulet {

/// Time since an arbitrary start that never goes back: for waits and deadlines.
using MonotonicTime = std::chrono::nanoseconds;
/// Calendar time: for expiry, and for what people read.
using UtcTime = std::chrono::sys_time<std::chrono::milliseconds>;

/// One reading of both clocks. Decisions take it as an argument and never ask a clock themselves.
struct Now {
  MonotonicTime monotonic{};
  UtcTime utc{};

  bool operator==(const Now&) const = default;
};

/// RFC 3339 in UTC with milliseconds, e.g. "2026-11-22T10:00:00.000Z".
std::string to_rfc3339(UtcTime time);
/// Reads what to_rfc3339 writes; the fraction may be absent.
Result<UtcTime> parse_rfc3339(std::string_view text);

/// "90s", "15m", "12h", "30d": a whole number and one unit. @return invalid otherwise.
Result<std::chrono::seconds> parse_duration(std::string_view text);

}  // namespace rivulet
