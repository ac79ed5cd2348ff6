#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <mutex>

#include "protocol/ids.h"
#include "storage/file_operations.h"

namespace rivulet {

/// What the files of one blob store share: their names, the quota, and whether the disk can be trusted.
/// Thread-safe. For the sources of this folder.
class BlobFolder {
 public:
  BlobFolder(std::filesystem::path path, FolderLock lock, std::uint64_t bytes_max,
             std::shared_ptr<FileOperations> operations);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path blob_path(const ContentId& id) const { return path_ / id.hex(); }
  [[nodiscard]] std::filesystem::path part_path(const ContentId& id) const {
    return path_ / (id.hex() + ".part");
  }
  [[nodiscard]] std::filesystem::path new_path(const ContentId& id) const {
    return path_ / (id.hex() + ".new");
  }
  [[nodiscard]] FileOperations& operations() const { return *operations_; }

  /// @return storage once a write or sync has failed.
  [[nodiscard]] Status check_writable() const;
  /// Passes on how a write or sync ended. One that failed leaves the disk in doubt, unless it was full.
  Status in_doubt(Status outcome);

  /// Counts bytes that are about to be written. @return storage_full above the quota.
  Status take_room(std::uint64_t bytes);
  /// Counts what is there already, whatever the quota.
  void count(std::uint64_t bytes);
  void give_room(std::uint64_t bytes);
  [[nodiscard]] std::uint64_t used_bytes() const;

  /// The first two steps towards a durable blob: its bytes, then its name.
  Status sync_and_rename(const FileDescriptor& file, const std::filesystem::path& from, const ContentId& to);
  /// The last one: until the folder is synced, nobody knows whether the name survives a crash.
  Status sync();

 private:
  const std::filesystem::path path_;
  const FolderLock lock_;
  const std::uint64_t bytes_max_;
  const std::shared_ptr<FileOperations> operations_;  // Shared with the test that lets them fail.
  std::atomic<bool> failed_ = false;
  mutable std::mutex mutex_;
  std::uint64_t used_bytes_ = 0;
};

}  // namespace rivulet
