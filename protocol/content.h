#pragma once

#include <vector>

#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/result.h"
#include "protocol/sha256.h"

namespace rivulet {

/// Bytes are hashed, sent and resumed in chunks of this size; the last one may be shorter.
inline constexpr std::uint64_t chunk_bytes = 1 << 20;

/// The length of some content and the SHA-256 of each of its chunks. It is sent before the content,
/// so that each chunk is verified as it arrives.
struct ChunkList {
  std::uint64_t length = 0;
  std::vector<Digest> chunks;

  bool operator==(const ChunkList&) const = default;
  /// SHA-256 over "rivulet.content.v1", the length (u64 LE) and the chunks' digests in order.
  [[nodiscard]] ContentId id() const;
  /// The number of chunks that `length` bytes have.
  static constexpr std::uint64_t count(std::uint64_t length) {
    return (length + chunk_bytes - 1) / chunk_bytes;
  }
};

/// Checks that `list` has the right number of chunks and hashes to `expected`. @return corrupt.
Status check(const ChunkList& list, const ContentId& expected);

/// Hashes content that is produced piece by piece.
class ChunkHasher {
 public:
  void update(ByteSpan bytes);
  /// The list of all bytes so far; starts anew.
  ChunkList finish();

 private:
  Sha256 chunk_;
  std::uint64_t in_chunk_ = 0;
  ChunkList list_;
};

ChunkList chunk_list_of(ByteSpan content);
inline ContentId content_id_of(ByteSpan content) { return chunk_list_of(content).id(); }

}  // namespace rivulet
