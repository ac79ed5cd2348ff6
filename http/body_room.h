#pragma once

#include <atomic>
#include <cstdint>

namespace rivulet::http {

/// The room that all bodies under way share. Thread-safe.
class BodyRoom {
 public:
  explicit BodyRoom(std::uint64_t bytes) : left_(bytes) {}
  /// @return false if there is no such room just now.
  bool take(std::uint64_t bytes) {
    std::uint64_t left = left_.load();
    while (left >= bytes) {
      if (left_.compare_exchange_weak(left, left - bytes)) return true;
    }
    return false;
  }
  void give_back(std::uint64_t bytes) { left_ += bytes; }

 private:
  std::atomic<std::uint64_t> left_;
};

}  // namespace rivulet::http
