#pragma once

#include "bench/fleet/shared_delta.h"
#include "storage/blob_store.h"

namespace rivulet::bench {

/// The one content that the whole fleet downloads. Whoever brings a byte first has it kept for all; the
/// sessions verify every node's own bytes, and a node that resumes reads its part from here.
struct SharedDownload {
  ContentId content;
  Bytes prefix;
};

/// What a synthetic node holds: an update that is made while it is read, and of its download only how
/// far it is. Single-threaded, and nothing of it is durable.
class NodeContents final : public BlobStore {
 public:
  /// All references outlive it.
  NodeContents(const SharedDelta& delta, SharedDownload& download) : delta_(delta), download_(download) {}

  /// Makes the node's update; before that it has none.
  const ChunkList& make_update(std::uint32_t node);
  [[nodiscard]] const ContentId& update() const { return update_; }
  [[nodiscard]] const ChunkList& update_list() const { return mark_.list; }

  Result<std::uint64_t> part_length(const ContentId& id) const override;
  /// @return refused for another content than the other nodes'.
  Status append_part(const ContentId& id, std::uint64_t offset, ByteSpan bytes) override;
  Status truncate_part(const ContentId& id, std::uint64_t length) override;
  Status erase_part(const ContentId& id) override;
  Result<Bytes> read_part(const ContentId& id, std::uint64_t offset, std::size_t size) const override;
  Status finish_part(const ContentId& id) override;
  /// @return unsupported.
  Status put(const ContentId& id, ByteSpan content) override;
  Result<Bytes> read(const ContentId& id, std::uint64_t offset, std::size_t size) const override;
  Result<std::uint64_t> size(const ContentId& id) const override;
  Status erase(const ContentId& id) override;
  std::vector<BlobInfo> list() const override;
  std::vector<PartInfo> list_parts() const override;
  std::uint64_t used_bytes() const override { return 0; }

 private:
  const SharedDelta& delta_;
  SharedDownload& download_;
  SharedDelta::Mark mark_;
  ContentId update_;
  ContentId part_;
  std::uint64_t part_length_ = 0;
};

}  // namespace rivulet::bench
