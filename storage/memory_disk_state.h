#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <optional>

#include "storage/memory_disk.h"

namespace rivulet {

/// What lies on the simulated disk; for memory_*.cpp only.
struct MemoryDisk::State {
  using Family = std::map<Bytes, Bytes>;

  /// What a key held before a write that is not synced yet.
  struct Undo {
    std::string family;
    Bytes key;
    std::optional<Bytes> value;
  };
  struct Blob {
    std::shared_ptr<const Bytes> content;
    bool durable = false;  // False only if its sync was a lie.
  };
  struct Part {
    Bytes content;
    UtcTime modified{};
  };

  std::mutex mutex;
  std::uint64_t crashes = 0;
  std::optional<Errc> commit_fault;
  std::optional<Errc> blob_fault;
  bool lies = false;
  UtcTime now{};

  std::map<std::string, Family, std::less<>> families;
  std::deque<std::vector<Undo>> unsynced;  // One entry a batch, oldest first.
  std::optional<WriteBatch> limbo;         // Its commit failed: the disk may have it, readers do not see it.

  std::shared_ptr<ContentPool> pool;
  std::map<ContentId, Blob> blobs;
  std::map<ContentId, Part> parts;
  std::map<ContentId, Blob> erased;  // Not yet for good: the folder has not been synced since.
  std::uint64_t used_bytes = 0;

  /// Applies `batch` to what readers see, and notes how to take it back.
  void apply(const WriteBatch& batch);
  void take_back_last();
};

}  // namespace rivulet
