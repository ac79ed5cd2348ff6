#include <algorithm>

#include "storage/memory_disk_state.h"

namespace rivulet {

namespace {

Result<Bytes> slice(const Bytes& content, std::uint64_t offset, std::size_t size, const ContentId& id) {
  if (offset > content.size()) return fail(Errc::invalid, "offset is behind the end of " + id.hex());
  const ByteSpan rest = ByteSpan(content).subspan(static_cast<std::size_t>(offset));
  return copy_of(rest.first(std::min(size, rest.size())));
}

class MemoryBlobStore final : public BlobStore {
 public:
  MemoryBlobStore(std::shared_ptr<MemoryDisk::State> disk, std::uint64_t bytes_max)
      : disk_(std::move(disk)), bytes_max_(bytes_max) {
    const std::lock_guard lock(disk_->mutex);
    crashes_ = disk_->crashes;
  }

  Result<std::uint64_t> part_length(const ContentId& id) const override {
    const std::lock_guard lock(disk_->mutex);
    if (auto up = check_up(); !up) return std::unexpected(up.error());
    const auto part = disk_->parts.find(id);
    return part == disk_->parts.end() ? 0 : part->second.content.size();
  }

  Status append_part(const ContentId& id, std::uint64_t offset, ByteSpan bytes) override {
    const std::lock_guard lock(disk_->mutex);
    if (auto writable = check_writable(); !writable) return writable;
    auto part = disk_->parts.find(id);
    const std::uint64_t length = part == disk_->parts.end() ? 0 : part->second.content.size();
    if (offset != length) {
      return fail(Errc::conflict, "part " + id.hex() + " has " + std::to_string(length) +
                                      " bytes, so bytes at offset " + std::to_string(offset) +
                                      " cannot be added");
    }
    if (auto room = take_room(bytes.size()); !room) return room;
    if (part == disk_->parts.end()) part = disk_->parts.try_emplace(id).first;
    Bytes& content = part->second.content;
    content.insert(content.end(), bytes.begin(), bytes.end());
    part->second.modified = disk_->now;
    disk_->used_bytes += bytes.size();
    return {};
  }

  Status truncate_part(const ContentId& id, std::uint64_t length) override {
    const std::lock_guard lock(disk_->mutex);
    if (auto writable = check_writable(); !writable) return writable;
    const auto part = disk_->parts.find(id);
    if (part == disk_->parts.end()) return fail(Errc::not_found, "there is no part " + id.hex());
    Bytes& content = part->second.content;
    if (length > content.size()) return fail(Errc::invalid, "part " + id.hex() + " is shorter already");
    disk_->used_bytes -= content.size() - length;
    content.resize(static_cast<std::size_t>(length));
    part->second.modified = disk_->now;
    return {};
  }

  Status erase_part(const ContentId& id) override {
    const std::lock_guard lock(disk_->mutex);
    if (auto writable = check_writable(); !writable) return writable;
    drop_part(id);
    return {};
  }

  Result<Bytes> read_part(const ContentId& id, std::uint64_t offset, std::size_t size) const override {
    const std::lock_guard lock(disk_->mutex);
    if (auto up = check_up(); !up) return std::unexpected(up.error());
    const auto part = disk_->parts.find(id);
    if (part == disk_->parts.end()) return fail(Errc::not_found, "there is no part " + id.hex());
    return slice(part->second.content, offset, size, id);
  }

  Status finish_part(const ContentId& id) override {
    const std::lock_guard lock(disk_->mutex);
    if (auto writable = check_writable(); !writable) return writable;
    const auto part = disk_->parts.find(id);
    if (part == disk_->parts.end()) return fail(Errc::not_found, "there is no part " + id.hex());
    if (auto fault = take_fault(); !fault) {
      drop_part(id);
      return fault;
    }
    Bytes content = std::move(part->second.content);
    disk_->used_bytes -= content.size();
    disk_->parts.erase(part);
    store(id, std::move(content));
    return {};
  }

  Status put(const ContentId& id, ByteSpan content) override {
    const std::lock_guard lock(disk_->mutex);
    if (auto writable = check_writable(); !writable) return writable;
    const auto blob = disk_->blobs.find(id);
    if (blob != disk_->blobs.end() && blob->second.content->size() == content.size()) return {};
    if (auto room = take_room(content.size()); !room) return room;
    store(id, copy_of(content));
    return {};
  }

  Result<Bytes> read(const ContentId& id, std::uint64_t offset, std::size_t size) const override {
    std::shared_ptr<const Bytes> content;  // Held beyond the lock: blobs are large.
    {
      const std::lock_guard lock(disk_->mutex);
      if (auto up = check_up(); !up) return std::unexpected(up.error());
      const auto blob = disk_->blobs.find(id);
      if (blob == disk_->blobs.end()) return fail(Errc::not_found, "there is no blob " + id.hex());
      content = blob->second.content;
    }
    return slice(*content, offset, size, id);
  }

  Result<std::uint64_t> size(const ContentId& id) const override {
    const std::lock_guard lock(disk_->mutex);
    if (auto up = check_up(); !up) return std::unexpected(up.error());
    const auto blob = disk_->blobs.find(id);
    if (blob == disk_->blobs.end()) return fail(Errc::not_found, "there is no blob " + id.hex());
    return blob->second.content->size();
  }

  Status erase(const ContentId& id) override {
    const std::lock_guard lock(disk_->mutex);
    if (auto writable = check_writable(); !writable) return writable;
    const auto blob = disk_->blobs.find(id);
    if (blob == disk_->blobs.end()) return {};
    disk_->used_bytes -= blob->second.content->size();
    disk_->erased.insert_or_assign(id, std::move(blob->second));
    disk_->blobs.erase(blob);
    return {};
  }

  std::vector<BlobInfo> list() const override {
    const std::lock_guard lock(disk_->mutex);
    std::vector<BlobInfo> infos;
    for (const auto& [id, blob] : disk_->blobs) infos.push_back({id, blob.content->size()});
    return infos;
  }

  std::vector<PartInfo> list_parts() const override {
    const std::lock_guard lock(disk_->mutex);
    std::vector<PartInfo> infos;
    for (const auto& [id, part] : disk_->parts) infos.push_back({id, part.content.size(), part.modified});
    return infos;
  }

  std::uint64_t used_bytes() const override {
    const std::lock_guard lock(disk_->mutex);
    return disk_->used_bytes;
  }

 private:
  Status check_up() const {
    if (disk_->crashes == crashes_) return {};
    return fail(Errc::storage, "the simulated machine has crashed: open the blob store again");
  }
  Status check_writable() const {
    if (failed_)
      return fail(Errc::storage, "an earlier sync failed, so the blob store only reads: open it again");
    return check_up();
  }
  Status take_fault() {
    const auto fault = std::exchange(disk_->blob_fault, std::nullopt);
    if (!fault) return {};
    if (*fault == Errc::storage_full) return fail(*fault, "no space left on the simulated disk: make room");
    failed_ = true;
    return fail(*fault, "input/output error of the simulated disk: replace it");
  }
  Status take_room(std::uint64_t bytes) {
    if (auto fault = take_fault(); !fault) return fault;
    if (disk_->used_bytes <= bytes_max_ && bytes <= bytes_max_ - disk_->used_bytes) return {};
    return fail(Errc::storage_full, "the blob quota of " + std::to_string(bytes_max_) +
                                        " bytes leaves no room for " + std::to_string(bytes) +
                                        " more: raise it, or erase blobs");
  }

  void drop_part(const ContentId& id) {
    const auto part = disk_->parts.find(id);
    if (part == disk_->parts.end()) return;
    disk_->used_bytes -= part->second.content.size();
    disk_->parts.erase(part);
  }
  void store(const ContentId& id, Bytes content) {
    auto& blob = disk_->blobs[id];
    if (blob.content) disk_->used_bytes -= blob.content->size();
    disk_->used_bytes += content.size();
    blob.content = disk_->pool ? disk_->pool->share(id, std::move(content))
                               : std::make_shared<const Bytes>(std::move(content));
    blob.durable = !disk_->lies;
    if (disk_->lies) return;
    disk_->erased.clear();  // The sync of the folder makes these final too.
  }

  const std::shared_ptr<MemoryDisk::State> disk_;  // Shared with the MemoryDisk.
  const std::uint64_t bytes_max_;
  std::uint64_t crashes_ = 0;
  bool failed_ = false;  // Under the disk's mutex.
};

}  // namespace

std::unique_ptr<BlobStore> make_memory_blob_store(MemoryDisk& disk, std::uint64_t bytes_max) {
  return std::make_unique<MemoryBlobStore>(disk.state(), bytes_max);
}

}  // namespace rivulet
