#pragma once

#include "storage/blob_store.h"

namespace rivulet::testing {

/// A blob store that passes all calls on; a test overrides what it watches or breaks.
class ForwardingBlobs : public BlobStore {
 public:
  /// @param inner outlives it.
  explicit ForwardingBlobs(BlobStore& inner) : inner_(inner) {}

  Result<std::uint64_t> part_length(const ContentId& id) const override { return inner_.part_length(id); }
  Status append_part(const ContentId& id, std::uint64_t offset, ByteSpan bytes) override {
    return inner_.append_part(id, offset, bytes);
  }
  Status truncate_part(const ContentId& id, std::uint64_t length) override {
    return inner_.truncate_part(id, length);
  }
  Status erase_part(const ContentId& id) override { return inner_.erase_part(id); }
  Result<Bytes> read_part(const ContentId& id, std::uint64_t offset, std::size_t size) const override {
    return inner_.read_part(id, offset, size);
  }
  Status finish_part(const ContentId& id) override { return inner_.finish_part(id); }
  Status put(const ContentId& id, ByteSpan content) override { return inner_.put(id, content); }
  Result<Bytes> read(const ContentId& id, std::uint64_t offset, std::size_t size) const override {
    return inner_.read(id, offset, size);
  }
  Result<std::uint64_t> size(const ContentId& id) const override { return inner_.size(id); }
  Status erase(const ContentId& id) override { return inner_.erase(id); }
  std::vector<BlobInfo> list() const override { return inner_.list(); }
  std::vector<PartInfo> list_parts() const override { return inner_.list_parts(); }
  std::uint64_t used_bytes() const override { return inner_.used_bytes(); }

 private:
  BlobStore& inner_;
};

}  // namespace rivulet::testing
