#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "storage/blob_folder.h"

namespace rivulet {

/// The blob files that were read last, kept open: a transfer and an aggregation read a file in hundreds of
/// pieces. Thread-safe. For the sources of this folder.
class OpenBlobs {
 public:
  struct File {
    FileDescriptor descriptor;
    std::filesystem::path path;
  };

  /// @param open_max the most files that stay open; at least 1.
  OpenBlobs(const BlobFolder& folder, std::size_t open_max);

  /// The blob's file, opened if it is not open yet. Shared with the reads that go on while it is closed here.
  /// @return not_found if it was removed.
  Result<std::shared_ptr<const File>> open(const ContentId& id);
  /// To be called when the blob's file has been removed or replaced: from then on open() never gives the old
  /// one, and its bytes leave the disk with the last read that goes on.
  void close(const ContentId& id);

 private:
  struct Entry {
    std::shared_ptr<const File> file;
    std::uint64_t last_use = 0;
  };

  const BlobFolder& folder_;
  const std::size_t open_max_;
  std::mutex mutex_;
  std::map<ContentId, Entry> entries_;
  std::uint64_t uses_ = 0;
};

}  // namespace rivulet
