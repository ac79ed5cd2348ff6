#pragma once

#include <functional>
#include <memory>

#include "protocol/bytes.h"
#include "protocol/rng.h"
#include "sim/world/event_loop.h"

namespace rivulet::sim {

enum class Side : std::uint8_t { node = 0, coordinator = 1 };
constexpr Side other(Side side) { return side == Side::node ? Side::coordinator : Side::node; }

struct LinkSpeed {
  MonotonicTime latency = std::chrono::milliseconds(20);
  double bytes_per_second = 1e6;
};

/// One connection with ordered frames, as TLS over TCP gives it. It can be cut at any frame, each side
/// learning of it at another time or never, and be stalled one way. After an end has let go, nothing is
/// delivered to it.
class VirtualLink : public std::enable_shared_from_this<VirtualLink> {
 public:
  struct End {
    std::function<void(ByteSpan frame)> on_frame;
    std::function<void()> on_writable;  ///< All frames so far are on their way.
    std::function<void()> on_closed;    ///< The other end, or the network, has gone.
  };

  VirtualLink(EventLoop& loop, const LinkSpeed& speed) : loop_(loop), speed_(speed) {}

  void attach(Side side, End end) { ends_[index(side)] = std::move(end); }
  /// Frames that are on their way when the link is cut are lost.
  void send(Side from, Bytes frame);
  /// This end closes: frames on their way still arrive, then the other side learns.
  void close(Side from);
  /// The network breaks. @param learn_after when each side is told; a negative time: never.
  void cut(MonotonicTime node_learns_after, MonotonicTime coordinator_learns_after);
  /// Frames from `from` arrive no earlier than `until`.
  void stall(Side from, MonotonicTime until) { stalled_until_[index(from)] = until; }
  [[nodiscard]] bool alive() const { return alive_; }
  /// Frame bytes that arrived at `side`.
  [[nodiscard]] std::uint64_t delivered_bytes(Side side) const { return delivered_[index(side)]; }

 private:
  static std::size_t index(Side side) { return static_cast<std::size_t>(side); }
  void detach(Side side) { ends_[index(side)] = {}; }
  void tell_closed(Side side, MonotonicTime delay);

  EventLoop& loop_;
  LinkSpeed speed_;
  End ends_[2];
  MonotonicTime free_at_[2]{};
  MonotonicTime stalled_until_[2]{};
  std::uint64_t delivered_[2]{};
  bool alive_ = true;
};

}  // namespace rivulet::sim
