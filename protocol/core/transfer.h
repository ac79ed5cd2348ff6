#pragma once

#include <cstdint>

#include "protocol/content.h"
#include "protocol/ids.h"
#include "protocol/result.h"
#include "protocol/sha256.h"

namespace rivulet::core {

/// Verifies content against its chunk list while it arrives in order. Pure: where the bytes are kept
/// is the caller's business. A part that was kept from an earlier connection is taken first, so that a
/// transfer resumes at any byte.
class ContentReceiver {
 public:
  /// @param list checked against its content id already.
  explicit ContentReceiver(ChunkList list) : list_(std::move(list)) {}

  /// The first `bytes`, whole chunks of a kept part, were verified before. To be called before take().
  void skip_verified(std::uint64_t bytes);
  /// Takes the next bytes in order, from the kept part or from the peer.
  /// @return corrupt if they end a chunk whose hash is wrong, or go past the content's length. After an
  /// error received() is back at the border of the last good chunk: the rest must be thrown away.
  Status take(ByteSpan bytes);

  [[nodiscard]] std::uint64_t received() const { return received_; }
  [[nodiscard]] bool complete() const { return received_ == list_.length; }
  [[nodiscard]] const ChunkList& list() const { return list_; }

 private:
  void go_back_to_border();

  ChunkList list_;
  std::uint64_t received_ = 0;
  Sha256 chunk_;
};

/// Credit that is granted to all peers out of one budget, so that what they have in flight together
/// has a bound. Pure.
class CreditPool {
 public:
  explicit CreditPool(std::uint64_t bytes) : available_(bytes) {}

  /// @return what was granted: `wanted`, or less, or nothing below `least`.
  std::uint64_t acquire(std::uint64_t wanted, std::uint64_t least);
  void release(std::uint64_t bytes) { available_ += bytes; }
  [[nodiscard]] std::uint64_t available() const { return available_; }

 private:
  std::uint64_t available_;
};

}  // namespace rivulet::core
