#include "bench/fleet/node_contents.h"

#include <algorithm>

namespace rivulet::bench {

const ChunkList& NodeContents::make_update(std::uint32_t node) {
  mark_ = delta_.mark(node);
  update_ = mark_.list.id();
  return mark_.list;
}

Result<std::uint64_t> NodeContents::part_length(const ContentId& id) const {
  return id == part_ ? part_length_ : 0;
}

Status NodeContents::append_part(const ContentId& id, std::uint64_t offset, ByteSpan bytes) {
  if (offset == 0) {
    part_ = id;
    part_length_ = 0;
  }
  if (id != part_ || offset != part_length_)
    return fail(Errc::conflict, "bytes that do not continue the part");
  if (download_.prefix.empty()) download_.content = id;
  if (id != download_.content) return fail(Errc::refused, "another content than the other nodes fetch");
  part_length_ += bytes.size();
  const std::uint64_t known = download_.prefix.size();
  if (part_length_ > known) {
    const auto fresh = bytes.subspan(static_cast<std::size_t>(known - offset));
    download_.prefix.insert(download_.prefix.end(), fresh.begin(), fresh.end());
  }
  return {};
}

Status NodeContents::truncate_part(const ContentId& id, std::uint64_t length) {
  if (id != part_) return fail(Errc::not_found, "there is no such part");
  if (length > part_length_) return fail(Errc::invalid, "the part is shorter");
  part_length_ = length;
  // The bytes behind were wrong, and may have come into the prefix by this node.
  download_.prefix.resize(static_cast<std::size_t>(std::min<std::uint64_t>(download_.prefix.size(), length)));
  return {};
}

Status NodeContents::erase_part(const ContentId& id) {
  if (id == part_) part_length_ = 0;
  return {};
}

Result<Bytes> NodeContents::read_part(const ContentId& id, std::uint64_t offset, std::size_t size) const {
  if (id != part_) return fail(Errc::not_found, "there is no such part");
  const std::uint64_t end = std::min<std::uint64_t>(part_length_, download_.prefix.size());
  if (offset > end) return fail(Errc::invalid, "the part is shorter");
  const auto begin = download_.prefix.begin() + static_cast<std::ptrdiff_t>(offset);
  return Bytes(begin, begin + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(size, end - offset)));
}

Status NodeContents::finish_part(const ContentId& id) {
  if (id != part_) return fail(Errc::not_found, "there is no such part");
  return {};
}

Status NodeContents::put(const ContentId&, ByteSpan) {
  return fail(Errc::unsupported, "contents are only fetched");
}

Result<Bytes> NodeContents::read(const ContentId& id, std::uint64_t offset, std::size_t size) const {
  const auto length = this->size(id);
  if (!length) return std::unexpected(length.error());
  if (offset > *length) return fail(Errc::invalid, "the content is shorter");
  return delta_.read(mark_, offset, size);
}

Result<std::uint64_t> NodeContents::size(const ContentId& id) const {
  if (update_.is_zero() || id != update_) return fail(Errc::not_found, "there is no such content");
  return mark_.list.length;
}

Status NodeContents::erase(const ContentId& id) {
  if (id == update_) update_ = {};
  return {};
}

std::vector<BlobInfo> NodeContents::list() const {
  if (update_.is_zero()) return {};
  return {{update_, mark_.list.length}};
}

std::vector<PartInfo> NodeContents::list_parts() const {
  if (part_length_ == 0) return {};
  return {{part_, part_length_, {}}};
}

}  // namespace rivulet::bench
