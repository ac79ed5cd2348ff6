#pragma once

#include <list>
#include <mutex>
#include <optional>

#include "protocol/content.h"
#include "storage/blob_store.h"

namespace rivulet::coordinator {

/// The chunk lists of the contents that nodes ask for, so that each is hashed once and not for every
/// node. Keeps those used last. Thread-safe.
class ChunkLists {
 public:
  /// More than nodes can ask for: else who asks for one after the other has each of them hashed each time.
  static constexpr std::size_t lists_max = 1024;

  /// Hashes the content if its list is not kept. @return nothing if it is not there, or the disk has
  /// damaged it.
  std::optional<ChunkList> get(const BlobStore& blobs, const ContentId& content);
  void forget(const ContentId& content);

 private:
  struct Entry {
    ContentId content;
    ChunkList list;
  };
  std::optional<ChunkList> find(const ContentId& content);

  std::mutex mutex_;
  std::list<Entry> entries_;  // The one used last at the front.
};

}  // namespace rivulet::coordinator
