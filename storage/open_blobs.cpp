#include "storage/open_blobs.h"

#include <fcntl.h>

#include <algorithm>

namespace rivulet {

OpenBlobs::OpenBlobs(const BlobFolder& folder, std::size_t open_max)
    : folder_(folder), open_max_(std::max<std::size_t>(open_max, 1)) {}

Result<std::shared_ptr<const OpenBlobs::File>> OpenBlobs::open(const ContentId& id) {
  // Held while the file is opened: one that is removed in the meantime is either not found, or closed after.
  const std::lock_guard lock(mutex_);
  if (const auto known = entries_.find(id); known != entries_.end()) {
    known->second.last_use = ++uses_;
    return known->second.file;
  }
  auto path = folder_.blob_path(id);
  auto descriptor = open_file(path, O_RDONLY);
  if (!descriptor) return std::unexpected(descriptor.error());
  if (entries_.size() >= open_max_) {
    entries_.erase(
        std::ranges::min_element(entries_, {}, [](const auto& item) { return item.second.last_use; }));
  }
  auto file = std::make_shared<const File>(std::move(*descriptor), std::move(path));
  entries_[id] = {file, ++uses_};
  return file;
}

void OpenBlobs::close(const ContentId& id) {
  const std::lock_guard lock(mutex_);
  entries_.erase(id);
}

}  // namespace rivulet
