#include "protocol/content.h"

#include <algorithm>

namespace rivulet {

ContentId ChunkList::id() const {
  Sha256 hash;
  hash.update(bytes_of("rivulet.content.v1"));
  Bytes header;
  append_le(header, length);
  hash.update(header);
  for (const Digest& chunk : chunks) hash.update(chunk.span());
  return {hash.finish().bytes};
}

Status check(const ChunkList& list, const ContentId& expected) {
  if (list.chunks.size() != ChunkList::count(list.length)) {
    return fail(Errc::corrupt, "the chunk list has " + std::to_string(list.chunks.size()) + " entries for " +
                                   std::to_string(list.length) + " bytes");
  }
  if (list.id() != expected) return fail(Errc::corrupt, "the chunk list does not hash to its content id");
  return {};
}

void ChunkHasher::update(ByteSpan bytes) {
  while (!bytes.empty()) {
    const auto room = static_cast<std::size_t>(chunk_bytes - in_chunk_);
    const ByteSpan part = bytes.first(std::min(room, bytes.size()));
    chunk_.update(part);
    in_chunk_ += part.size();
    list_.length += part.size();
    bytes = bytes.subspan(part.size());
    if (in_chunk_ == chunk_bytes) {
      list_.chunks.push_back(chunk_.finish());
      in_chunk_ = 0;
    }
  }
}

ChunkList ChunkHasher::finish() {
  if (in_chunk_ > 0) list_.chunks.push_back(chunk_.finish());
  in_chunk_ = 0;
  return std::exchange(list_, {});
}

ChunkList chunk_list_of(ByteSpan content) {
  ChunkHasher hasher;
  hasher.update(content);
  return hasher.finish();
}

}  // namespace rivulet
