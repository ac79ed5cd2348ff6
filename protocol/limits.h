#pragma once

#include <chrono>
#include <cstdint>

namespace rivulet {

/// Every limit on what a peer can make us spend, with its default. docs/protocol.md shows the table.
struct Limits {
  std::chrono::milliseconds handshake_timeout{5000};    ///< TCP accept to the end of the TLS handshake.
  std::chrono::milliseconds hello_timeout{5000};        ///< End of the handshake to a welcome.
  std::chrono::milliseconds heartbeat_interval{60000};  ///< Sent when nothing else was for so long.
  std::uint32_t heartbeats_missed_max = 3;              ///< Then the peer is taken for dead.
  std::chrono::milliseconds progress_window{30000};     ///< A transfer, or a frame, must move …
  std::uint64_t progress_bytes_min = 30 * 1024;         ///< … this much in each window (1 KiB/s).

  std::uint32_t hello_frame_bytes_max = 4096;  ///< One frame before the peer is known.
  std::uint32_t frame_bytes_max = 128 * 1024;  ///< One frame of a known peer.
  /// The data of one chunk message that we send. A cut connection loses half of it on average: fifty cuts in
  /// 20 MB cost 4 %, with twice the size 8 %.
  std::uint32_t chunk_data_bytes_max = 32 * 1024;
  std::uint32_t chunk_data_taken_max = 64 * 1024;            ///< The same of one that a peer may send.
  std::uint64_t content_bytes_max = std::uint64_t{1} << 30;  ///< Whatever a manifest or header says.
  std::uint64_t transfer_memory = 64 << 20;                  ///< Credit granted to all peers together.
  std::uint32_t transfer_window = 512 * 1024;                ///< Credit granted to one peer.

  std::uint32_t unauthenticated_max = 256;           ///< Connections that have not shown who they are …
  std::uint32_t unauthenticated_per_prefix_max = 8;  ///< … and of those from one /24 or /56.
};

/// The protocol versions that this build speaks.
inline constexpr std::uint16_t protocol_version_min = 1;
inline constexpr std::uint16_t protocol_version_max = 1;

/// The versions that a party speaks, both ends included.
struct ProtocolRange {
  std::uint16_t min = protocol_version_min;
  std::uint16_t max = protocol_version_max;

  bool operator==(const ProtocolRange&) const = default;
};

}  // namespace rivulet
