#pragma once

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace rivulet::coordinator {

/// The time that a client has to send a request, or to take an answer: so long, and a second more for each
/// `bytes_per_second` that went. Pure.
class Allowance {
 public:
  using Clock = std::chrono::steady_clock;

  Allowance(std::chrono::milliseconds patience, std::uint64_t bytes_per_second)
      : patience_(patience), bytes_per_second_(bytes_per_second) {}

  void count(std::size_t bytes) { bytes_ += bytes; }
  /// It begins with the first call. @return at most `most`; 0 when it is used up.
  std::chrono::milliseconds left(Clock::time_point now, std::chrono::milliseconds most);

 private:
  std::chrono::milliseconds patience_;
  std::uint64_t bytes_per_second_;
  std::optional<Clock::time_point> begun_;
  std::uint64_t bytes_ = 0;
};

/// An HTTP server that bounds what its clients may take. The library's own keeps every socket that it
/// accepts, however many wait, and begins each time-out anew with every byte that drips in. One request a
/// connection.
class BoundedServer final : public httplib::Server {
 public:
  struct Limits {
    std::size_t threads = 8;
    std::size_t waiting_max = 64;  ///< Connections that wait for a thread; who comes then is told 503.
    std::chrono::milliseconds first_byte{2'000};
    std::chrono::milliseconds silence{5'000};    ///< In the middle of a request or its answer.
    std::chrono::milliseconds patience{10'000};  ///< Allowance of a request, and of its answer.
    std::uint64_t bytes_per_second = 16 * 1024;
  };

  explicit BoundedServer(const Limits& limits);
  /// Connections that were turned away, as too many waited.
  [[nodiscard]] std::uint64_t turned_away() const { return turned_away_; }

 private:
  bool process_and_close_socket(socket_t socket) override;
  template <typename Connection>
  bool answer(Connection& connection);

  Limits limits_;
  std::atomic<std::uint64_t> turned_away_ = 0;
};

}  // namespace rivulet::coordinator
