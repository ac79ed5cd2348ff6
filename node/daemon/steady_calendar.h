#pragma once

#include <chrono>
#include <optional>
#include <utility>

#include "protocol/now.h"

namespace rivulet::node {

/// Tells a calendar that runs from one that has just jumped: was set, or learnt from the coordinator. By the
/// time after a jump nothing is judged that was stamped before.
class SteadyCalendar {
 public:
  /// @return whether the calendar has moved as the monotonic clock did since the last look; false for the
  /// first.
  bool runs(Now now) {
    const auto before = std::exchange(last_, now);
    if (!before) return false;
    const auto moved = std::chrono::duration_cast<std::chrono::milliseconds>(now.utc - before->utc);
    const auto passed =
        std::chrono::duration_cast<std::chrono::milliseconds>(now.monotonic - before->monotonic);
    return moved <= passed + tolerance && passed <= moved + tolerance;
  }

 private:
  static constexpr std::chrono::seconds tolerance{10};

  std::optional<Now> last_;
};

}  // namespace rivulet::node
