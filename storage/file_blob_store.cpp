#include "storage/file_blob_store.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>

#include "storage/crash_point.h"
#ifdef RIVULET_CRASH_POINTS
#include "storage/fault_disk.h"
#endif

namespace rivulet {

namespace {

namespace fs = std::filesystem;

/// One arriving content. Its file is open while it is among the recently used ones.
struct Part {
  std::mutex mutex;  // Taken before the store's mutex, never after it.
  FileDescriptor file;
  std::uint64_t length = 0;
  UtcTime modified{};
  std::uint64_t last_use = 0;  // Under the store's mutex.
  bool open = false;           // Under the store's mutex: whether `file` is, or will be soon.
  bool gone = false;
};

UtcTime utc_now() {
  return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

class FileBlobStore final : public BlobStore {
 public:
  FileBlobStore(fs::path folder, FolderLock lock, FileBlobOptions options)
      : folder_(std::move(folder)),
        lock_(std::move(lock)),
        bytes_max_(options.bytes_max),
        open_parts_max_(std::max<std::size_t>(options.open_parts_max, 1)),
        operations_(std::move(options.operations)) {}

  /// Finds what the folder holds. Before anybody else sees the object.
  Status load();

  Result<std::uint64_t> part_length(const ContentId& id) const override {
    const auto part = find_part(id);
    if (!part) return 0;
    const std::lock_guard lock(part->mutex);
    return part->gone ? 0 : part->length;
  }
  Status append_part(const ContentId& id, std::uint64_t offset, ByteSpan bytes) override;
  Status truncate_part(const ContentId& id, std::uint64_t length) override;
  Status erase_part(const ContentId& id) override;
  Result<Bytes> read_part(const ContentId& id, std::uint64_t offset, std::size_t size) const override;
  Status finish_part(const ContentId& id) override;
  Status put(const ContentId& id, ByteSpan content) override;
  Result<Bytes> read(const ContentId& id, std::uint64_t offset, std::size_t size) const override;
  Status erase(const ContentId& id) override;

  Result<std::uint64_t> size(const ContentId& id) const override {
    const std::lock_guard lock(mutex_);
    const auto blob = blobs_.find(id);
    if (blob == blobs_.end()) return fail(Errc::not_found, fmt::format("there is no blob {}", id.hex()));
    return blob->second;
  }
  std::vector<BlobInfo> list() const override {
    const std::lock_guard lock(mutex_);
    std::vector<BlobInfo> infos;
    for (const auto& [id, length] : blobs_) infos.push_back({id, length});
    return infos;
  }
  std::vector<PartInfo> list_parts() const override {
    std::vector<std::pair<ContentId, std::shared_ptr<Part>>> parts;
    {
      const std::lock_guard lock(mutex_);
      parts.assign(parts_.begin(), parts_.end());
    }
    std::vector<PartInfo> infos;
    for (const auto& [id, part] : parts) {
      const std::lock_guard lock(part->mutex);
      if (!part->gone) infos.push_back({id, part->length, part->modified});
    }
    return infos;
  }
  std::uint64_t used_bytes() const override {
    const std::lock_guard lock(mutex_);
    return used_bytes_;
  }

 private:
  fs::path blob_path(const ContentId& id) const { return folder_ / id.hex(); }
  fs::path part_path(const ContentId& id) const { return folder_ / (id.hex() + ".part"); }

  std::shared_ptr<Part> find_part(const ContentId& id) const {
    const std::lock_guard lock(mutex_);
    const auto part = parts_.find(id);
    return part == parts_.end() ? nullptr : part->second;
  }
  Status check_writable() const {
    if (!failed_) return {};
    return fail(Errc::storage,
                fmt::format("an earlier write to {} failed, so it is only read: mend the disk and "
                            "start again",
                            folder_.string()));
  }
  /// A failed write or sync leaves the disk in doubt; a full disk does not.
  Status in_doubt(Status outcome) {
    if (!outcome && outcome.error().code != Errc::storage_full) {
      outcome.error().code = Errc::storage;
      failed_ = true;
    }
    return outcome;
  }
  Status take_room(std::uint64_t bytes);
  void give_room(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    used_bytes_ -= bytes;
  }
  Status open_part_file(const ContentId& id, Part& part);
  void close_another();
  Status remove_part(const ContentId& id, Part& part);
  Status sync_and_rename(const FileDescriptor& file, const fs::path& from, const fs::path& to);
  Status sync_renamed(const ContentId& id);
  void add_blob(const ContentId& id, std::uint64_t length);

  const fs::path folder_;
  const FolderLock lock_;
  const std::uint64_t bytes_max_;
  const std::size_t open_parts_max_;
  const std::shared_ptr<FileOperations> operations_;  // Shared with the test that lets them fail.
  std::atomic<bool> failed_ = false;

  mutable std::mutex mutex_;
  std::map<ContentId, std::uint64_t> blobs_;
  std::map<ContentId, std::shared_ptr<Part>> parts_;  // Shared with the calls that work on it.
  std::uint64_t used_bytes_ = 0;
  std::uint64_t uses_ = 0;
};

Status FileBlobStore::load() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    const auto id = ContentId::from_hex(std::string_view(name).substr(0, 64));
    if (!id || id->hex() != std::string_view(name).substr(0, 64)) continue;
    const std::string_view suffix = std::string_view(name).substr(64);
    struct stat info{};
    if (::lstat(entry.path().c_str(), &info) != 0) return fail_errno("examine", entry.path(), errno);
    if (!S_ISREG(info.st_mode)) continue;
    const auto length = static_cast<std::uint64_t>(info.st_size);
    if (suffix.empty()) {
      blobs_[*id] = length;
      used_bytes_ += length;
    } else if (suffix == ".part") {
      auto part = std::make_shared<Part>();
      part->length = length;
      part->modified = UtcTime(std::chrono::duration_cast<std::chrono::milliseconds>(
          std::chrono::seconds(info.st_mtim.tv_sec) + std::chrono::nanoseconds(info.st_mtim.tv_nsec)));
      parts_[*id] = std::move(part);
      used_bytes_ += length;
    } else if (suffix == ".new") {
      if (auto removed = operations_->remove(entry.path()); !removed) return removed;
    }
  }
  if (error) return fail_errno("list", folder_, error.value());
  return {};
}

Status FileBlobStore::take_room(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (used_bytes_ > bytes_max_ || bytes > bytes_max_ - used_bytes_) {
    return fail(Errc::storage_full,
                fmt::format("{} holds {} of its {} bytes, which leaves no room for {} more: raise "
                            "the quota, or erase blobs",
                            folder_.string(), used_bytes_, bytes_max_, bytes));
  }
  used_bytes_ += bytes;
  return {};
}

/// Opens the part's file unless it is. The caller holds the part's mutex.
Status FileBlobStore::open_part_file(const ContentId& id, Part& part) {
  if (!part.file.is_open()) {
    close_another();
    auto file = operations_->open(part_path(id));
    if (!file) return std::unexpected(file.error());
    part.file = std::move(*file);
  }
  const std::lock_guard lock(mutex_);
  part.open = true;
  part.last_use = ++uses_;
  return {};
}

/// Closes the least recently used files above the bound; one that is being written stays.
void FileBlobStore::close_another() {
  std::vector<std::shared_ptr<Part>> open;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, part] : parts_) {
      if (part->open) open.push_back(part);
    }
    if (open.size() < open_parts_max_) return;
    std::ranges::sort(open, {}, &Part::last_use);
  }
  std::size_t excess = open.size() - open_parts_max_ + 1;
  for (const auto& part : open) {
    if (excess == 0) return;
    const std::unique_lock held(part->mutex, std::try_to_lock);
    if (!held) continue;
    part->file.close();
    const std::lock_guard lock(mutex_);
    part->open = false;
    --excess;
  }
}

Status FileBlobStore::append_part(const ContentId& id, std::uint64_t offset, ByteSpan bytes) {
  if (auto writable = check_writable(); !writable) return writable;
  auto part = find_part(id);
  if (!part) {
    part = std::make_shared<Part>();
    const std::lock_guard lock(mutex_);
    if (offset == 0) parts_[id] = part;
  }
  const std::lock_guard held(part->mutex);
  if (offset != part->length) {
    return fail(Errc::conflict, fmt::format("part {} has {} bytes, so bytes at offset {} cannot be added",
                                            id.hex(), part->length, offset));
  }
  const auto forget_if_unborn = [&] {
    if (part->length > 0 || part->file.is_open()) return;
    part->gone = true;
    const std::lock_guard lock(mutex_);
    parts_.erase(id);
  };
  if (auto room = take_room(bytes.size()); !room) {
    forget_if_unborn();
    return room;
  }
  if (auto opened = open_part_file(id, *part); !opened) {
    give_room(bytes.size());
    forget_if_unborn();
    return opened;
  }
  const fs::path path = part_path(id);
  if (auto written = operations_->write(part->file, path, offset, bytes); !written) {
    give_room(bytes.size());
    // What was written of it must not look like content.
    std::ignore = in_doubt(operations_->truncate(part->file, path, offset));
    return in_doubt(std::move(written));
  }
  part->length += bytes.size();
  part->modified = utc_now();
  crash_point("blob.after_append");
  return {};
}

Status FileBlobStore::truncate_part(const ContentId& id, std::uint64_t length) {
  if (auto writable = check_writable(); !writable) return writable;
  const auto part = find_part(id);
  if (!part) return fail(Errc::not_found, fmt::format("there is no part {}", id.hex()));
  const std::lock_guard held(part->mutex);
  if (length > part->length) {
    return fail(Errc::invalid,
                fmt::format("part {} has {} bytes and cannot be cut to {}", id.hex(), part->length, length));
  }
  if (auto opened = open_part_file(id, *part); !opened) return opened;
  if (auto cut = in_doubt(operations_->truncate(part->file, part_path(id), length)); !cut) return cut;
  give_room(part->length - length);
  part->length = length;
  part->modified = utc_now();
  return {};
}

/// Removes the file and forgets the part. The caller holds the part's mutex.
Status FileBlobStore::remove_part(const ContentId& id, Part& part) {
  if (part.gone) return {};
  part.file.close();
  auto removed = operations_->remove(part_path(id));
  part.gone = true;
  const std::lock_guard lock(mutex_);
  used_bytes_ -= part.length;
  parts_.erase(id);
  return removed;
}

Status FileBlobStore::erase_part(const ContentId& id) {
  if (auto writable = check_writable(); !writable) return writable;
  const auto part = find_part(id);
  if (!part) return {};
  const std::lock_guard held(part->mutex);
  return remove_part(id, *part);
}

Result<Bytes> FileBlobStore::read_part(const ContentId& id, std::uint64_t offset, std::size_t size) const {
  const auto part = find_part(id);
  if (!part) return fail(Errc::not_found, fmt::format("there is no part {}", id.hex()));
  const std::lock_guard held(part->mutex);
  if (part->gone) return fail(Errc::not_found, fmt::format("there is no part {}", id.hex()));
  if (offset > part->length)
    return fail(Errc::invalid, fmt::format("offset {} is behind the end of part {}", offset, id.hex()));
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(size, part->length - offset));
  if (part->file.is_open()) return read_at(part->file, part_path(id), offset, wanted);
  const auto file = open_file(part_path(id), O_RDONLY);
  if (!file) return std::unexpected(file.error());
  return read_at(*file, part_path(id), offset, wanted);
}

/// The first two steps towards durability: bytes, then name.
Status FileBlobStore::sync_and_rename(const FileDescriptor& file, const fs::path& from, const fs::path& to) {
  crash_point("blob.before_fdatasync");
  if (auto synced = in_doubt(operations_->sync(file, from)); !synced) return synced;
  crash_point("blob.before_rename");
  return in_doubt(operations_->rename(from, to));
}

/// The last step. If it fails, nobody knows whether the name survives a crash, so the blob goes: it was
/// never promised.
Status FileBlobStore::sync_renamed(const ContentId& id) {
  crash_point("blob.before_folder_sync");
  if (auto synced = in_doubt(operations_->sync_folder(folder_)); !synced) {
    std::ignore = operations_->remove(blob_path(id));  // Best effort: the sweep finds what is left.
    const std::lock_guard lock(mutex_);
    if (const auto old = blobs_.find(id); old != blobs_.end()) {
      used_bytes_ -= old->second;
      blobs_.erase(old);
    }
    return synced;
  }
  crash_point("blob.after_folder_sync");
  return {};
}

/// `length` is counted in used_bytes_ already; what it replaces is counted off.
void FileBlobStore::add_blob(const ContentId& id, std::uint64_t length) {
  const std::lock_guard lock(mutex_);
  if (const auto old = blobs_.find(id); old != blobs_.end()) used_bytes_ -= old->second;
  blobs_[id] = length;
}

Status FileBlobStore::finish_part(const ContentId& id) {
  if (auto writable = check_writable(); !writable) return writable;
  const auto part = find_part(id);
  if (!part) return fail(Errc::not_found, fmt::format("there is no part {}", id.hex()));
  const std::lock_guard held(part->mutex);
  if (part->gone) return fail(Errc::not_found, fmt::format("there is no part {}", id.hex()));
  if (auto opened = open_part_file(id, *part); !opened) return opened;
  if (auto renamed = sync_and_rename(part->file, part_path(id), blob_path(id)); !renamed) {
    std::ignore = remove_part(id, *part);  // Best effort: at the next start it is an old part at worst.
    return renamed;
  }
  part->file.close();
  part->gone = true;
  {
    const std::lock_guard lock(mutex_);
    parts_.erase(id);
  }
  auto synced = sync_renamed(id);
  if (synced) {
    add_blob(id, part->length);
  } else {
    give_room(part->length);
  }
  return synced;
}

Status FileBlobStore::put(const ContentId& id, ByteSpan content) {
  if (auto writable = check_writable(); !writable) return writable;
  if (const auto known = size(id); known && *known == content.size()) return {};
  if (auto room = take_room(content.size()); !room) return room;
  const fs::path path = folder_ / (id.hex() + ".new");
  const auto write_new = [&]() -> Status {
    const auto file = operations_->open(path);
    if (!file) return std::unexpected(file.error());
    if (auto empty = operations_->truncate(*file, path, 0); !empty) return in_doubt(std::move(empty));
    if (auto written = operations_->write(*file, path, 0, content); !written)
      return in_doubt(std::move(written));
    return sync_and_rename(*file, path, blob_path(id));
  };
  auto stored = write_new();
  if (!stored) std::ignore = operations_->remove(path);  // Best effort: opening removes it.
  if (stored) stored = sync_renamed(id);
  if (stored) {
    add_blob(id, content.size());
  } else {
    give_room(content.size());
  }
  return stored;
}

Result<Bytes> FileBlobStore::read(const ContentId& id, std::uint64_t offset, std::size_t size) const {
  const auto length = this->size(id);
  if (!length) return std::unexpected(length.error());
  if (offset > *length)
    return fail(Errc::invalid, fmt::format("offset {} is behind the end of {}", offset, id.hex()));
  const auto file = open_file(blob_path(id), O_RDONLY);
  if (!file) return std::unexpected(file.error());
  return read_at(*file, blob_path(id), offset,
                 static_cast<std::size_t>(std::min<std::uint64_t>(size, *length - offset)));
}

Status FileBlobStore::erase(const ContentId& id) {
  if (auto writable = check_writable(); !writable) return writable;
  if (!contains(id)) return {};
  if (auto removed = operations_->remove(blob_path(id)); !removed) return removed;
  const std::lock_guard lock(mutex_);
  if (const auto blob = blobs_.find(id); blob != blobs_.end()) {
    used_bytes_ -= blob->second;
    blobs_.erase(blob);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<BlobStore>> open_file_blob_store(const fs::path& folder, FileBlobOptions options) {
  if (auto made = make_folder(folder); !made) return std::unexpected(made.error());
  auto lock = lock_folder(folder);
  if (!lock) return std::unexpected(lock.error());
  if (const auto format = open_format(folder, "blobs", blob_format); !format)
    return std::unexpected(format.error());
#ifdef RIVULET_CRASH_POINTS
  if (const auto disk = FaultDisk::from_env(); disk && !options.operations) {
    options.operations = make_faulty_file_operations(disk);
  }
#endif
  if (!options.operations) options.operations = make_file_operations();
  auto store = std::make_unique<FileBlobStore>(folder, std::move(*lock), std::move(options));
  if (auto loaded = store->load(); !loaded) return std::unexpected(loaded.error());
  return store;
}

}  // namespace rivulet
