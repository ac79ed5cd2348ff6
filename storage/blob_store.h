#pragma once

#include <unordered_set>
#include <vector>

#include "protocol/content.h"
#include "protocol/now.h"
#include "protocol/result.h"

namespace rivulet {

struct BlobInfo {
  ContentId id;
  std::uint64_t length = 0;

  bool operator==(const BlobInfo&) const = default;
};

/// Content that is still arriving.
struct PartInfo {
  ContentId id;
  std::uint64_t length = 0;
  UtcTime modified{};
};

/// Whole contents by their id, and the prefixes of those that are still arriving ("parts"). It never
/// checks that content matches its id: see hash_blob().
///
/// Blobs are durable when put() or finish_part() return; parts are not durable: a crash leaves some
/// prefix of a part, whose bytes are to be hashed again. An erased blob may be back after a crash.
///
/// Thread-safe. Calls that write the same id must not overlap.
///
/// Errors of everything that writes: storage_full when the quota or the disk has no room (nothing has
/// changed; room makes the next call succeed); storage when the disk failed. After a write or sync that
/// failed so, the store refuses all writing until it is opened again.
class BlobStore {
 public:
  virtual ~BlobStore() = default;

  /// Bytes of the part so far; 0 if there is none.
  virtual Result<std::uint64_t> part_length(const ContentId& id) const = 0;
  /// Adds at the end of a part, and begins one at offset 0. Not synced.
  /// @return conflict if `offset` is not the part's length.
  virtual Status append_part(const ContentId& id, std::uint64_t offset, ByteSpan bytes) = 0;
  /// Shortens a part. @return not_found, invalid if it is shorter than `length`.
  virtual Status truncate_part(const ContentId& id, std::uint64_t length) = 0;
  /// Removes a part; nothing happens if there is none.
  virtual Status erase_part(const ContentId& id) = 0;
  /// Fewer bytes than `size` at the end. @return not_found, invalid if `offset` is behind the end.
  virtual Result<Bytes> read_part(const ContentId& id, std::uint64_t offset, std::size_t size) const = 0;
  /// Turns the part into the blob, durably. @return not_found; after storage or storage_full the part is
  /// gone, since a failed sync leaves its bytes unknown.
  virtual Status finish_part(const ContentId& id) = 0;

  /// Stores whole content, durably. A blob of this id and length that is there already is kept.
  virtual Status put(const ContentId& id, ByteSpan content) = 0;
  /// Fewer bytes than `size` at the end. @return not_found, invalid if `offset` is behind the end.
  virtual Result<Bytes> read(const ContentId& id, std::uint64_t offset, std::size_t size) const = 0;
  /// The blob's length. @return not_found.
  virtual Result<std::uint64_t> size(const ContentId& id) const = 0;
  /// Removes a blob; nothing happens if there is none.
  virtual Status erase(const ContentId& id) = 0;

  /// Ascending by id.
  virtual std::vector<BlobInfo> list() const = 0;
  virtual std::vector<PartInfo> list_parts() const = 0;
  /// Bytes of all blobs and parts: what the quota bounds.
  virtual std::uint64_t used_bytes() const = 0;

  bool contains(const ContentId& id) const { return size(id).has_value(); }
  Result<Bytes> read_all(const ContentId& id) const;
};

/// Reads a blob in pieces of 1 MiB and hashes it; its id() is the blob's name unless the disk has
/// damaged it. @return not_found, storage.
Result<ChunkList> hash_blob(const BlobStore& blobs, const ContentId& id);

struct Sweep {
  std::size_t blobs = 0;
  std::size_t parts = 0;
  std::uint64_t bytes = 0;
};

/// Removes the blobs that `referenced` lacks and the parts last changed before `parts_before`. For the
/// time before work begins: a blob that was just stored, but whose reference is not yet committed, goes.
Result<Sweep> sweep(BlobStore& blobs, const std::unordered_set<ContentId>& referenced, UtcTime parts_before);

}  // namespace rivulet
