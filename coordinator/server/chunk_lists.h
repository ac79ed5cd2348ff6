#pragma once

#include <list>
#include <mutex>
#include <optional>
#include <set>

#include "protocol/content.h"
#include "storage/blob_store.h"

namespace rivulet::coordinator {

/// The chunk lists of the contents that nodes ask for, so that each is hashed once and not for every
/// node. Keeps those used last, and which contents the disk has damaged. Thread-safe.
class ChunkLists {
 public:
  /// More than nodes can ask for: else who asks for one after the other has each of them hashed each time.
  static constexpr std::size_t lists_max = 1024;

  struct Found {
    std::optional<ChunkList> list;  ///< Nothing if the content is not there, or the disk has damaged it, …
    bool newly_damaged = false;     ///< … which is told once.
  };
  /// Hashes the content if its list is not kept.
  Found get(const BlobStore& blobs, const ContentId& content);
  void forget(const ContentId& content);

 private:
  struct Entry {
    ContentId content;
    ChunkList list;
  };
  std::optional<ChunkList> find(const ContentId& content);
  bool is_damaged(const ContentId& content);

  std::mutex mutex_;
  std::list<Entry> entries_;     // The one used last at the front.
  std::set<ContentId> damaged_;  // Not hashed again for whoever asks.
};

}  // namespace rivulet::coordinator
