#pragma once

#include <array>
#include <asio/ip/address.hpp>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "protocol/transport/limits.h"

namespace rivulet {

class PendingSlots;

/// A connection's place among those not yet authenticated. It is given back by release(), once the peer has
/// proven to belong, or by destruction. Any thread.
class PendingSlot {
 public:
  PendingSlot(PendingSlot&& other) noexcept;
  PendingSlot& operator=(PendingSlot&& other) noexcept;
  ~PendingSlot() { release(); }

  /// The connection counts as authenticated from now on. May be called again.
  void release();

 private:
  friend class PendingSlots;
  /// A network: the kind of address, then 3 bytes of IPv4 (/24) or 7 of IPv6 (/56).
  using Network = std::array<unsigned char, 8>;
  PendingSlot(std::shared_ptr<PendingSlots> slots, const Network& network);

  std::shared_ptr<PendingSlots> slots_;  // shared: a slot may outlive its listener
  Network network_;
};

/// Counts the connections that are not authenticated yet, in total and by network. Thread-safe. Owned by a
/// shared_ptr, as its slots refer to it.
class PendingSlots : public std::enable_shared_from_this<PendingSlots> {
 public:
  enum class Refusal { total, network };

  explicit PendingSlots(const ListenerLimits& limits) : limits_(limits) {}

  /// @param why_not set if there is no slot.
  std::optional<PendingSlot> take(const asio::ip::address& peer, Refusal& why_not);
  [[nodiscard]] std::size_t taken() const;

 private:
  friend class PendingSlot;
  void give_back(const PendingSlot::Network& network);

  const ListenerLimits limits_;
  mutable std::mutex mutex_;
  std::size_t taken_ = 0;                                   // under mutex_
  std::map<PendingSlot::Network, std::size_t> by_network_;  // under mutex_; at most pending_max entries
};

}  // namespace rivulet
