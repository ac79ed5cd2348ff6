#pragma once

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "protocol/now.h"
#include "protocol/rng.h"
#include "storage/blob_store.h"
#include "storage/store.h"

namespace rivulet {

/// Shares equal blobs among the disks of a simulated fleet, so that a thousand nodes with one model hold
/// its bytes once. Thread-safe.
class ContentPool {
 public:
  ContentPool();
  ~ContentPool();
  /// The shared form of `content`; bytes that differ from those known under `id` stay apart.
  std::shared_ptr<const Bytes> share(const ContentId& id, Bytes content);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The disk of one simulated machine: a store and a blob store that outlive the objects opened on them.
/// Written and synced are two things here, and a crash tells them apart. Same calls, same seed, same
/// result. Thread-safe.
class MemoryDisk {
 public:
  /// @param pool shared with the other machines of the fleet; none: the disk keeps its own copies.
  explicit MemoryDisk(std::shared_ptr<ContentPool> pool = nullptr);
  ~MemoryDisk();
  MemoryDisk(const MemoryDisk&) = delete;
  MemoryDisk& operator=(const MemoryDisk&) = delete;

  /// The machine stops. Of the batches that were not synced some suffix is lost, parts are cut at any
  /// byte, erased blobs may be back. Objects opened before answer Errc::storage; open them anew.
  void crash(Rng& rng);

  /// The next commit fails. @param code storage (then the store only reads until opened again, and the
  /// batch may be there after that) or storage_full (the batch is not written).
  void fail_next_commit(Errc code);
  /// The next append_part(), put() or finish_part() fails likewise.
  void fail_next_blob_write(Errc code);
  /// While set, syncs are reported and not done: what a run with a broken disk must catch.
  void lie_about_sync(bool lies);
  /// What parts written from now on carry as their time of change.
  void set_time(UtcTime now);

  struct State;
  [[nodiscard]] const std::shared_ptr<State>& state() const { return state_; }

 private:
  std::shared_ptr<State> state_;  // Shared with the stores opened on it, which may go later.
};

/// Opens the disk's store, with what earlier objects left on it. One at a time.
std::unique_ptr<Store> make_memory_store(MemoryDisk& disk, std::vector<std::string> families);

/// Opens the disk's blob store likewise.
std::unique_ptr<BlobStore> make_memory_blob_store(
    MemoryDisk& disk, std::uint64_t bytes_max = std::numeric_limits<std::uint64_t>::max());

}  // namespace rivulet
