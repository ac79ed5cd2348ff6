#pragma once

#include <filesystem>
#include <limits>
#include <memory>

#include "storage/blob_store.h"
#include "storage/file_operations.h"

namespace rivulet {

struct FileBlobOptions {
  /// The quota over all blobs and parts.
  std::uint64_t bytes_max = std::numeric_limits<std::uint64_t>::max();
  /// Parts whose files stay open between appends; the least recently used one is closed for another. More
  /// than the 128 uploads that Limits lets move at once, or else every append would open its file anew.
  std::size_t open_parts_max = 160;
  /// Blobs whose files stay open between reads; the least recently used one is closed for another.
  std::size_t open_blobs_max = 64;
  /// None: the operating system's. Shared with the test that lets them fail.
  std::shared_ptr<FileOperations> operations = nullptr;
};

/// Opens or makes a blob store in a folder of its own:
///   FORMAT, LOCK    see file.h
///   HEX             a blob, named by the 64 lower-case digits of its id
///   HEX.part        content that is still arriving
///   HEX.new         a put() that is under way; one that a crash left is removed here
/// Files with other names are left alone.
/// @return conflict if another process (or object) holds the folder; unsupported, corrupt, permission.
Result<std::unique_ptr<BlobStore>> open_file_blob_store(const std::filesystem::path& folder,
                                                        FileBlobOptions options = {});

/// The newest form of such a folder.
inline constexpr std::uint32_t blob_format = 1;

}  // namespace rivulet
