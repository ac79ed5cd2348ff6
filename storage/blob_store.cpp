#include "storage/blob_store.h"

#include <algorithm>

namespace rivulet {

Result<Bytes> BlobStore::read_all(const ContentId& id) const {
  const auto length = size(id);
  if (!length) return std::unexpected(length.error());
  auto content = read(id, 0, *length);
  if (content && content->size() != *length) {
    return fail(Errc::corrupt, "blob " + id.hex() + " is shorter than it was: restore it from a backup");
  }
  return content;
}

Result<ChunkList> hash_blob(const BlobStore& blobs, const ContentId& id) {
  const auto length = blobs.size(id);
  if (!length) return std::unexpected(length.error());
  ChunkHasher hasher;
  for (std::uint64_t offset = 0; offset < *length; offset += chunk_bytes) {
    const auto piece =
        blobs.read(id, offset, static_cast<std::size_t>(std::min(chunk_bytes, *length - offset)));
    if (!piece) return std::unexpected(piece.error());
    hasher.update(*piece);
  }
  return hasher.finish();
}

Result<Sweep> sweep(BlobStore& blobs, const std::unordered_set<ContentId>& referenced, UtcTime parts_before) {
  Sweep swept;
  for (const BlobInfo& blob : blobs.list()) {
    if (referenced.contains(blob.id)) continue;
    if (auto erased = blobs.erase(blob.id); !erased) return std::unexpected(erased.error());
    ++swept.blobs;
    swept.bytes += blob.length;
  }
  for (const PartInfo& part : blobs.list_parts()) {
    if (part.modified >= parts_before) continue;
    if (auto erased = blobs.erase_part(part.id); !erased) return std::unexpected(erased.error());
    ++swept.parts;
    swept.bytes += part.length;
  }
  return swept;
}

}  // namespace rivulet
