#include "storage/file_blob_store.h"

#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>

#include "storage/blob_folder.h"
#include "storage/open_blobs.h"
#include "storage/part_files.h"
#ifdef RIVULET_CRASH_POINTS
#include "storage/fault_disk.h"
#endif

namespace rivulet {

namespace {

namespace fs = std::filesystem;

class FileBlobStore final : public BlobStore {
 public:
  FileBlobStore(const fs::path& folder, FolderLock lock, FileBlobOptions options)
      : folder_(folder, std::move(lock), options.bytes_max, std::move(options.operations)),
        parts_(folder_, options.open_parts_max),
        open_(folder_, options.open_blobs_max) {}

  /// Finds what the folder holds. Before anybody else sees the object.
  Status load();

  Result<std::uint64_t> part_length(const ContentId& id) const override { return parts_.length(id); }
  Status append_part(const ContentId& id, std::uint64_t offset, ByteSpan bytes) override {
    return if_writable([&] { return parts_.append(id, offset, bytes); });
  }
  Status truncate_part(const ContentId& id, std::uint64_t length) override {
    return if_writable([&] { return parts_.truncate(id, length); });
  }
  Status erase_part(const ContentId& id) override {
    return if_writable([&] { return parts_.erase(id); });
  }
  Result<Bytes> read_part(const ContentId& id, std::uint64_t offset, std::size_t size) const override {
    return parts_.read(id, offset, size);
  }
  std::vector<PartInfo> list_parts() const override { return parts_.list(); }

  Status finish_part(const ContentId& id) override {
    return if_writable([&]() -> Status {
      const auto length = parts_.turn_into_blob(id);
      return length ? keep_renamed(id, *length) : std::unexpected(length.error());
    });
  }
  Status put(const ContentId& id, ByteSpan content) override {
    return if_writable([&] { return write(id, content); });
  }
  Result<Bytes> read(const ContentId& id, std::uint64_t offset, std::size_t size) const override;
  Status erase(const ContentId& id) override {
    return if_writable([&] { return remove(id); });
  }

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
  std::uint64_t used_bytes() const override { return folder_.used_bytes(); }

 private:
  template <typename Action>
  Status if_writable(Action action) {
    if (auto writable = folder_.check_writable(); !writable) return writable;
    return action();
  }
  Status write(const ContentId& id, ByteSpan content);
  Status remove(const ContentId& id);
  Status keep_renamed(const ContentId& id, std::uint64_t length);
  void forget(const ContentId& id);

  BlobFolder folder_;
  PartFiles parts_;
  mutable OpenBlobs open_;
  mutable std::mutex mutex_;
  std::map<ContentId, std::uint64_t> blobs_;
};

Status FileBlobStore::load() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_.path(), error)) {
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
      folder_.count(length);
    } else if (suffix == ".part") {
      parts_.found(
          *id, length,
          UtcTime(std::chrono::duration_cast<std::chrono::milliseconds>(
              std::chrono::seconds(info.st_mtim.tv_sec) + std::chrono::nanoseconds(info.st_mtim.tv_nsec))));
      folder_.count(length);
    } else if (suffix == ".new") {
      if (auto removed = folder_.operations().remove(entry.path()); !removed) return removed;
    }
  }
  if (error) return fail_errno("list", folder_.path(), error.value());
  return {};
}

/// The last step of a file that has the blob's name; its length is counted. If it fails, the blob goes: it
/// was never promised.
Status FileBlobStore::keep_renamed(const ContentId& id, std::uint64_t length) {
  if (auto synced = folder_.sync(); !synced) {
    std::ignore =
        folder_.operations().remove(folder_.blob_path(id));  // Best effort: the sweep finds the rest.
    forget(id);
    folder_.give_room(length);
    return synced;
  }
  open_.close(id);  // Before the new length is known: the file that had the name may be shorter.
  const std::lock_guard lock(mutex_);
  const auto [blob, is_new] = blobs_.try_emplace(id, length);
  if (!is_new) folder_.give_room(std::exchange(blob->second, length));
  return {};
}

/// The file of this blob is gone.
void FileBlobStore::forget(const ContentId& id) {
  open_.close(id);
  const std::lock_guard lock(mutex_);
  if (const auto blob = blobs_.find(id); blob != blobs_.end()) {
    folder_.give_room(blob->second);
    blobs_.erase(blob);
  }
}

Status FileBlobStore::write(const ContentId& id, ByteSpan content) {
  if (const auto known = size(id); known && *known == content.size()) return {};
  if (auto room = folder_.take_room(content.size()); !room) return room;
  const fs::path path = folder_.new_path(id);
  FileOperations& operations = folder_.operations();
  const auto write_new = [&]() -> Status {
    const auto file = operations.open(path);
    if (!file) return std::unexpected(file.error());
    if (auto empty = operations.truncate(*file, path, 0); !empty) return folder_.in_doubt(std::move(empty));
    if (auto written = operations.write(*file, path, 0, content); !written)
      return folder_.in_doubt(std::move(written));
    return folder_.sync_and_rename(*file, path, id);
  };
  if (auto stored = write_new(); !stored) {
    std::ignore = operations.remove(path);  // Best effort: opening removes it.
    folder_.give_room(content.size());
    return stored;
  }
  return keep_renamed(id, content.size());
}

Result<Bytes> FileBlobStore::read(const ContentId& id, std::uint64_t offset, std::size_t size) const {
  const auto length = this->size(id);
  if (!length) return std::unexpected(length.error());
  if (offset > *length)
    return fail(Errc::invalid, fmt::format("offset {} is behind the end of {}", offset, id.hex()));
  const auto file = open_.open(id);
  if (!file) return std::unexpected(file.error());
  return read_at((*file)->descriptor, (*file)->path, offset,
                 static_cast<std::size_t>(std::min<std::uint64_t>(size, *length - offset)));
}

Status FileBlobStore::remove(const ContentId& id) {
  if (!contains(id)) return {};
  if (auto removed = folder_.operations().remove(folder_.blob_path(id)); !removed) return removed;
  forget(id);
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
