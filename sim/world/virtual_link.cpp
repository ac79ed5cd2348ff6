#include "sim/world/virtual_link.h"

#include <algorithm>

namespace rivulet::sim {

void VirtualLink::send(Side from, Bytes frame) {
  const std::size_t i = index(from);
  const auto transmission = std::chrono::duration_cast<MonotonicTime>(
      std::chrono::duration<double>(static_cast<double>(frame.size()) / speed_.bytes_per_second));
  // A stall holds back all behind it too: frames never overtake each other.
  free_at_[i] = std::max({free_at_[i], loop_.now(), stalled_until_[i]}) + transmission;
  auto self = shared_from_this();
  loop_.at(free_at_[i], [self, i] {
    if (self->alive_ && self->loop_.now() >= self->free_at_[i] && self->ends_[i].on_writable) {
      self->ends_[i].on_writable();
    }
  });
  loop_.at(free_at_[i] + speed_.latency, [self, from, frame = std::move(frame)] {
    const Side to = other(from);
    // A copy, since the receiver may let go of the link while it handles the frame.
    const auto on_frame = self->ends_[index(to)].on_frame;
    if (!self->alive_ || !on_frame) return;
    self->delivered_[index(to)] += frame.size();
    on_frame(frame);
  });
}

void VirtualLink::close(Side from) {
  detach(from);
  const Side to = other(from);
  tell_closed(to, std::max(free_at_[index(from)], loop_.now()) + speed_.latency - loop_.now());
}

void VirtualLink::cut(MonotonicTime node_learns_after, MonotonicTime coordinator_learns_after) {
  alive_ = false;
  if (node_learns_after >= MonotonicTime{}) tell_closed(Side::node, node_learns_after);
  if (coordinator_learns_after >= MonotonicTime{}) tell_closed(Side::coordinator, coordinator_learns_after);
}

void VirtualLink::tell_closed(Side side, MonotonicTime delay) {
  loop_.after(delay, [self = shared_from_this(), side] {
    const auto on_closed = self->ends_[index(side)].on_closed;
    self->detach(side);
    if (on_closed) on_closed();
  });
}

}  // namespace rivulet::sim
