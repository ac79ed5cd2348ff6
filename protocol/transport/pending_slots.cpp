#include "protocol/transport/pending_slots.h"

#include <algorithm>
#include <utility>

#include "protocol/assert.h"

namespace rivulet {
namespace {

/// A dual-stack listener sees IPv4 peers as ::ffff:1.2.3.4.
asio::ip::address unmapped(const asio::ip::address& address) {
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
}

std::array<unsigned char, 8> network_of(const asio::ip::address& address) {
  std::array<unsigned char, 8> network{};
  if (address.is_v4()) {
    const auto bytes = address.to_v4().to_bytes();
    network[0] = 4;
    std::copy_n(bytes.begin(), 3, network.begin() + 1);
  } else {
    const auto bytes = address.to_v6().to_bytes();
    network[0] = 6;
    std::copy_n(bytes.begin(), 7, network.begin() + 1);
  }
  return network;
}

}  // namespace

PendingSlot::PendingSlot(std::shared_ptr<PendingSlots> slots, const Network& network)
    : slots_(std::move(slots)), network_(network) {}

PendingSlot::PendingSlot(PendingSlot&& other) noexcept
    : slots_(std::exchange(other.slots_, nullptr)), network_(other.network_) {}

PendingSlot& PendingSlot::operator=(PendingSlot&& other) noexcept {
  if (this == &other) return *this;
  release();
  slots_ = std::exchange(other.slots_, nullptr);
  network_ = other.network_;
  return *this;
}

void PendingSlot::release() {
  if (const auto slots = std::exchange(slots_, nullptr)) slots->give_back(network_);
}

std::optional<PendingSlot> PendingSlots::take(const asio::ip::address& peer, Refusal& why_not) {
  const asio::ip::address address = unmapped(peer);
  const PendingSlot::Network network = network_of(address);
  const bool counted = limits_.limit_loopback || !address.is_loopback();
  const std::lock_guard lock(mutex_);
  if (taken_ >= limits_.pending_max) {
    why_not = Refusal::total;
    return std::nullopt;
  }
  const auto found = by_network_.find(network);
  if (counted && found != by_network_.end() && found->second >= limits_.pending_per_network_max) {
    why_not = Refusal::network;
    return std::nullopt;
  }
  ++taken_;
  ++by_network_[network];
  return PendingSlot(shared_from_this(), network);
}

std::size_t PendingSlots::taken() const {
  const std::lock_guard lock(mutex_);
  return taken_;
}

void PendingSlots::give_back(const PendingSlot::Network& network) {
  const std::lock_guard lock(mutex_);
  const auto found = by_network_.find(network);
  RIVULET_ASSERT(taken_ > 0 && found != by_network_.end());
  --taken_;
  if (--found->second == 0) by_network_.erase(found);
}

}  // namespace rivulet
