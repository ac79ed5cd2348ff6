#include "coordinator/server/chunk_lists.h"

#include <algorithm>

namespace rivulet::coordinator {

std::optional<ChunkList> ChunkLists::find(const ContentId& content) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(entries_, content, &Entry::content);
  if (found == entries_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, found);
  return found->list;
}

std::optional<ChunkList> ChunkLists::get(const BlobStore& blobs, const ContentId& content) {
  if (auto list = find(content)) return list;
  auto list = hash_blob(blobs, content);
  if (!list || list->id() != content) return std::nullopt;
  const std::lock_guard lock(mutex_);
  entries_.push_front({content, *list});
  if (entries_.size() > lists_max) entries_.pop_back();
  return *list;
}

void ChunkLists::forget(const ContentId& content) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return entry.content == content; });
}

}  // namespace rivulet::coordinator
