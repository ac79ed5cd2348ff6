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

ChunkLists::Found ChunkLists::get(const BlobStore& blobs, const ContentId& content) {
  if (auto list = find(content)) return {std::move(list)};
  if (is_damaged(content)) return {};
  auto list = hash_blob(blobs, content);
  if (!list) return {};
  const std::lock_guard lock(mutex_);
  if (list->id() != content) return {std::nullopt, damaged_.insert(content).second};
  entries_.push_front({content, *list});
  if (entries_.size() > lists_max) entries_.pop_back();
  return {std::move(*list)};
}

bool ChunkLists::is_damaged(const ContentId& content) {
  const std::lock_guard lock(mutex_);
  return damaged_.contains(content);
}

void ChunkLists::forget(const ContentId& content) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return entry.content == content; });
  damaged_.erase(content);
}

}  // namespace rivulet::coordinator
