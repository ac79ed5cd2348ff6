#pragma once

#include <chrono>
#include <cstddef>

namespace rivulet {

/// What a connection may take of our time. Every value has its reason: a peer that can hold memory or a place
/// without giving anything for it needs a limit.
struct TransportLimits {
  /// From the TCP connection to the end of the TLS handshake.
  std::chrono::milliseconds handshake{5'000};
  /// From the end of the handshake to the last byte of the first frame.
  std::chrono::milliseconds first_frame{5'000};
  /// Silence between two frames; 0 = for ever.
  std::chrono::milliseconds idle{180'000};
  /// A frame under way moves at least `progress_bytes` in each window, or else it ends within the window.
  /// With these defaults: 1 KiB/s.
  std::chrono::milliseconds progress_window{30'000};
  std::size_t progress_bytes = 30 * 1024;
  /// How long close() waits for the peer's end, so that what we sent last is not lost to a reset.
  std::chrono::milliseconds linger{500};
};

/// How many connections may wait for their authentication.
struct ListenerLimits {
  std::size_t pending_max = 256;
  /// For one network: /24 of IPv4, /56 of IPv6.
  std::size_t pending_per_network_max = 8;
  /// Whether the cap per network counts for 127.0.0.0/8 and ::1 too, where tests and local fleets come from.
  bool limit_loopback = false;
  /// The pause after the system refused us a connection (EMFILE, ENFILE, ENOMEM).
  std::chrono::milliseconds accept_backoff{100};
};

}  // namespace rivulet
