#pragma once

#include <spdlog/fmt/fmt.h>

#include <string>

namespace rivulet {

/// What timing one and the same engine twice may differ by.
inline constexpr double timing_noise = 1.05;

/// Whether a bench keeps its bars.
class Verdict {
 public:
  /// Prints the value and its ratio to what is allowed, above which it is a miss.
  void bar(const std::string& what, double value, double allowed) {
    all_held_ = all_held_ && value <= allowed;
    fmt::print("    {:<58} {:.4f}, {:.2f} of what is allowed\n", what, value, value / allowed);
  }
  [[nodiscard]] bool all_held() const { return all_held_; }

 private:
  bool all_held_ = true;
};

}  // namespace rivulet
