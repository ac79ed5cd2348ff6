#pragma once

#include <filesystem>
#include <memory>

#include "storage/file.h"

namespace rivulet {

/// What a blob store does to a disk, behind an interface so that tests can let it fail. Thread-safe.
class FileOperations {
 public:
  virtual ~FileOperations() = default;
  /// Opens for reading and writing; makes the file (0600) if it is missing.
  virtual Result<FileDescriptor> open(const std::filesystem::path& path) = 0;
  virtual Status write(const FileDescriptor& file, const std::filesystem::path& path, std::uint64_t offset,
                       ByteSpan bytes) = 0;
  virtual Status truncate(const FileDescriptor& file, const std::filesystem::path& path,
                          std::uint64_t length) = 0;
  /// fdatasync(2).
  virtual Status sync(const FileDescriptor& file, const std::filesystem::path& path) = 0;
  virtual Status rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  virtual Status sync_folder(const std::filesystem::path& folder) = 0;
  /// Nothing happens if the file is missing.
  virtual Status remove(const std::filesystem::path& path) = 0;
};

/// The operating system's own.
std::shared_ptr<FileOperations> make_file_operations();

}  // namespace rivulet
