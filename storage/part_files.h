#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "storage/blob_folder.h"
#include "storage/blob_store.h"

namespace rivulet {

/// The contents of a blob folder that are still arriving, each in a file of its own. The files last
/// written to stay open, up to a bound. Thread-safe; calls that write the same id must not overlap. For
/// the sources of this folder.
class PartFiles {
 public:
  /// @param open_max at least 1.
  PartFiles(BlobFolder& folder, std::size_t open_max);

  /// A part that an earlier process left. Before any other call.
  void found(const ContentId& id, std::uint64_t length, UtcTime modified);

  // As BlobStore says of each.
  [[nodiscard]] std::uint64_t length(const ContentId& id) const;
  Status append(const ContentId& id, std::uint64_t offset, ByteSpan bytes);
  Status truncate(const ContentId& id, std::uint64_t length);
  Status erase(const ContentId& id);
  [[nodiscard]] Result<Bytes> read(const ContentId& id, std::uint64_t offset, std::size_t size) const;
  [[nodiscard]] std::vector<PartInfo> list() const;

  /// Syncs the part and gives its file the blob's name; the folder is not synced yet.
  /// @return its length, which stays counted; not_found; storage, and then the part is gone.
  Result<std::uint64_t> turn_into_blob(const ContentId& id);

 private:
  struct Part {
    std::mutex mutex;  // Taken before the table's, never after it.
    FileDescriptor file;
    std::uint64_t length = 0;
    UtcTime modified{};
    std::uint64_t last_use = 0;  // Under the table's mutex.
    bool open = false;           // Under the table's mutex: whether `file` is, or will be soon.
    bool gone = false;
  };

  std::shared_ptr<Part> find(const ContentId& id) const;
  Status open_file_of(const ContentId& id, Part& part);
  void close_another();
  void forget(const ContentId& id, Part& part);
  Status remove(const ContentId& id, Part& part);

  BlobFolder& folder_;
  const std::size_t open_max_;
  mutable std::mutex mutex_;
  std::map<ContentId, std::shared_ptr<Part>> parts_;  // Shared with the calls that work on it.
  std::uint64_t uses_ = 0;
};

}  // namespace rivulet
