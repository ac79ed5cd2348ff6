#include "storage/blob_folder.h"

#include <spdlog/fmt/fmt.h>

#include "storage/crash_point.h"

namespace rivulet {

namespace fs = std::filesystem;

BlobFolder::BlobFolder(fs::path path, FolderLock lock, std::uint64_t bytes_max,
                       std::shared_ptr<FileOperations> operations)
    : path_(std::move(path)),
      lock_(std::move(lock)),
      bytes_max_(bytes_max),
      operations_(std::move(operations)) {}

Status BlobFolder::check_writable() const {
  if (!failed_) return {};
  return fail(Errc::storage,
              fmt::format("an earlier write to {} failed, so it is only read: mend the disk and "
                          "start again",
                          path_.string()));
}

Status BlobFolder::in_doubt(Status outcome) {
  if (!outcome && outcome.error().code != Errc::storage_full && outcome.error().code != Errc::busy) {
    outcome.error().code = Errc::storage;
    failed_ = true;
  }
  return outcome;
}

Status BlobFolder::take_room(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (used_bytes_ > bytes_max_ || bytes > bytes_max_ - used_bytes_) {
    return fail(Errc::storage_full,
                fmt::format("{} holds {} of its {} bytes, which leaves no room for {} more: raise "
                            "the quota, or erase blobs",
                            path_.string(), used_bytes_, bytes_max_, bytes));
  }
  used_bytes_ += bytes;
  return {};
}

void BlobFolder::count(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  used_bytes_ += bytes;
}

void BlobFolder::give_room(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  used_bytes_ -= bytes;
}

std::uint64_t BlobFolder::used_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_bytes_;
}

Status BlobFolder::sync_and_rename(const FileDescriptor& file, const fs::path& from, const ContentId& to) {
  crash_point("blob.before_fdatasync");
  if (auto synced = in_doubt(operations_->sync(file, from)); !synced) return synced;
  crash_point("blob.before_rename");
  return in_doubt(operations_->rename(from, blob_path(to)));
}

Status BlobFolder::sync() {
  crash_point("blob.before_folder_sync");
  auto synced = in_doubt(operations_->sync_folder(path_));
  if (synced) crash_point("blob.after_folder_sync");
  return synced;
}

}  // namespace rivulet
