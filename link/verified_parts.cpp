#include "link/verified_parts.h"

#include "protocol/content.h"

namespace rivulet {

std::uint64_t VerifiedParts::find(const ContentId& content) {
  const auto found = by_content_.find(content);
  if (found == by_content_.end()) return 0;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->bytes;
}

void VerifiedParts::set(const ContentId& content, std::uint64_t bytes) {
  const std::uint64_t whole = bytes - bytes % chunk_bytes;
  const auto found = by_content_.find(content);
  if (found != by_content_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    found->second->bytes = whole;
    return;
  }
  if (whole == 0) return;
  entries_.push_front({content, whole});
  by_content_[content] = entries_.begin();
  if (entries_.size() <= parts_max_) return;
  by_content_.erase(entries_.back().content);
  entries_.pop_back();
}

}  // namespace rivulet
