#include "storage/part_files.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "storage/crash_point.h"

namespace rivulet {

namespace {

UtcTime utc_now() {
  return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

std::unexpected<Error> no_part(const ContentId& id) {
  return fail(Errc::not_found, fmt::format("there is no part {}", id.hex()));
}

}  // namespace

PartFiles::PartFiles(BlobFolder& folder, std::size_t open_max)
    : folder_(folder), open_max_(std::max<std::size_t>(open_max, 1)) {}

void PartFiles::found(const ContentId& id, std::uint64_t length, UtcTime modified) {
  auto part = std::make_shared<Part>();
  part->length = length;
  part->modified = modified;
  const std::lock_guard lock(mutex_);
  parts_[id] = std::move(part);
}

std::shared_ptr<PartFiles::Part> PartFiles::find(const ContentId& id) const {
  const std::lock_guard lock(mutex_);
  const auto part = parts_.find(id);
  return part == parts_.end() ? nullptr : part->second;
}

std::uint64_t PartFiles::length(const ContentId& id) const {
  const auto part = find(id);
  if (!part) return 0;
  const std::lock_guard held(part->mutex);
  return part->gone ? 0 : part->length;
}

std::vector<PartInfo> PartFiles::list() const {
  std::vector<std::pair<ContentId, std::shared_ptr<Part>>> parts;
  {
    const std::lock_guard lock(mutex_);
    parts.assign(parts_.begin(), parts_.end());
  }
  std::vector<PartInfo> infos;
  for (const auto& [id, part] : parts) {
    const std::lock_guard held(part->mutex);
    if (!part->gone) infos.push_back({id, part->length, part->modified});
  }
  return infos;
}

/// Opens the part's file unless it is. The caller holds the part's mutex.
Status PartFiles::open_file_of(const ContentId& id, Part& part) {
  if (!part.file.is_open()) {
    close_another();
    auto file = folder_.operations().open(folder_.part_path(id));
    if (!file) return std::unexpected(file.error());
    part.file = std::move(*file);
  }
  const std::lock_guard lock(mutex_);
  part.open = true;
  part.last_use = ++uses_;
  return {};
}

/// Closes the least recently used files above the bound; one that is being written stays.
void PartFiles::close_another() {
  std::vector<std::shared_ptr<Part>> open;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, part] : parts_) {
      if (part->open) open.push_back(part);
    }
    if (open.size() < open_max_) return;
    std::ranges::sort(open, {}, &Part::last_use);
  }
  std::size_t excess = open.size() - open_max_ + 1;
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

Status PartFiles::append(const ContentId& id, std::uint64_t offset, ByteSpan bytes) {
  auto part = find(id);
  if (!part) {
    part = std::make_shared<Part>();
    const std::lock_guard lock(mutex_);
    if (offset == 0) parts_[id] = part;
  }
  const std::lock_guard held(part->mutex);
  if (part->gone) return fail(Errc::conflict, fmt::format("part {} was removed meanwhile", id.hex()));
  if (offset != part->length) {
    return fail(Errc::conflict, fmt::format("part {} has {} bytes, so bytes at offset {} cannot be added",
                                            id.hex(), part->length, offset));
  }
  const auto forget_if_unborn = [&] {
    if (part->length == 0 && !part->file.is_open()) forget(id, *part);
  };
  if (auto room = folder_.take_room(bytes.size()); !room) {
    forget_if_unborn();
    return room;
  }
  if (auto opened = open_file_of(id, *part); !opened) {
    folder_.give_room(bytes.size());
    forget_if_unborn();
    return opened;
  }
  const auto path = folder_.part_path(id);
  if (auto written = folder_.operations().write(part->file, path, offset, bytes); !written) {
    folder_.give_room(bytes.size());
    // What was written of it must not look like content.
    std::ignore = folder_.in_doubt(folder_.operations().truncate(part->file, path, offset));
    return folder_.in_doubt(std::move(written));
  }
  part->length += bytes.size();
  part->modified = utc_now();
  crash_point("blob.after_append");
  return {};
}

Status PartFiles::truncate(const ContentId& id, std::uint64_t length) {
  const auto part = find(id);
  if (!part) return no_part(id);
  const std::lock_guard held(part->mutex);
  if (part->gone) return no_part(id);
  if (length > part->length) {
    return fail(Errc::invalid,
                fmt::format("part {} has {} bytes and cannot be cut to {}", id.hex(), part->length, length));
  }
  if (auto opened = open_file_of(id, *part); !opened) return opened;
  auto cut = folder_.in_doubt(folder_.operations().truncate(part->file, folder_.part_path(id), length));
  if (!cut) return cut;
  folder_.give_room(part->length - length);
  part->length = length;
  part->modified = utc_now();
  return {};
}

/// From now on there is no such part. The caller holds the part's mutex.
void PartFiles::forget(const ContentId& id, Part& part) {
  part.file.close();
  part.gone = true;
  const std::lock_guard lock(mutex_);
  parts_.erase(id);
}

/// Removes the file and forgets the part. The caller holds the part's mutex.
Status PartFiles::remove(const ContentId& id, Part& part) {
  if (part.gone) return {};
  auto removed = folder_.operations().remove(folder_.part_path(id));
  forget(id, part);
  folder_.give_room(part.length);
  return removed;
}

Status PartFiles::erase(const ContentId& id) {
  const auto part = find(id);
  if (!part) return {};
  const std::lock_guard held(part->mutex);
  return remove(id, *part);
}

Result<Bytes> PartFiles::read(const ContentId& id, std::uint64_t offset, std::size_t size) const {
  const auto part = find(id);
  if (!part) return no_part(id);
  const std::lock_guard held(part->mutex);
  if (part->gone) return no_part(id);
  if (offset > part->length)
    return fail(Errc::invalid, fmt::format("offset {} is behind the end of part {}", offset, id.hex()));
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(size, part->length - offset));
  const auto path = folder_.part_path(id);
  if (part->file.is_open()) return read_at(part->file, path, offset, wanted);
  const auto file = open_file(path, O_RDONLY);
  if (!file) return std::unexpected(file.error());
  return read_at(*file, path, offset, wanted);
}

Result<std::uint64_t> PartFiles::turn_into_blob(const ContentId& id) {
  const auto part = find(id);
  if (!part) return no_part(id);
  const std::lock_guard held(part->mutex);
  if (part->gone) return no_part(id);
  if (auto opened = open_file_of(id, *part); !opened) return std::unexpected(opened.error());
  if (auto renamed = folder_.sync_and_rename(part->file, folder_.part_path(id), id); !renamed) {
    std::ignore = remove(id, *part);  // Best effort: at the next start it is an old part at worst.
    return std::unexpected(renamed.error());
  }
  forget(id, *part);
  return part->length;
}

}  // namespace rivulet
