#include "protocol/core/transfer.h"

#include <algorithm>
#include <string>

#include "protocol/assert.h"

namespace rivulet::core {

void ContentReceiver::skip_verified(std::uint64_t bytes) {
  RIVULET_ASSERT(received_ == 0 && bytes % chunk_bytes == 0 && bytes <= list_.length);
  received_ = bytes;
}

Status ContentReceiver::take(ByteSpan bytes) {
  if (bytes.size() > list_.length - received_) {
    go_back_to_border();
    return fail(Errc::corrupt, "more bytes came than the content has: " + std::to_string(list_.length));
  }
  while (!bytes.empty()) {
    const std::uint64_t index = received_ / chunk_bytes;
    const std::uint64_t chunk_end = std::min(list_.length, (index + 1) * chunk_bytes);
    const ByteSpan part = bytes.first(std::min<std::size_t>(bytes.size(), chunk_end - received_));
    chunk_.update(part);
    received_ += part.size();
    bytes = bytes.subspan(part.size());
    if (received_ == chunk_end && chunk_.finish() != list_.chunks[index]) {
      received_ = index * chunk_bytes;
      return fail(Errc::corrupt, "chunk " + std::to_string(index) + " of the content has a wrong hash");
    }
  }
  return {};
}

void ContentReceiver::go_back_to_border() {
  received_ -= received_ % chunk_bytes;
  chunk_ = Sha256();
}

std::uint64_t CreditPool::acquire(std::uint64_t wanted, std::uint64_t least) {
  const std::uint64_t granted = std::min(wanted, available_);
  if (granted < least) return 0;
  available_ -= granted;
  return granted;
}

}  // namespace rivulet::core
