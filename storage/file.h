#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string_view>

#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet {

/// What an errno value means to a caller: ENOSPC and EDQUOT are storage_full, EACCES and EPERM
/// permission, ENOENT not_found, everything else storage.
Errc errc_of_errno(int error);

/// "cannot <doing> <path>: <the system's words>", with the code of errc_of_errno(error).
std::unexpected<Error> fail_errno(std::string_view doing, const std::filesystem::path& path, int error);

/// Owns an open file; closed on destruction.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }
  void close();

 private:
  int fd_ = -1;
};

/// @param flags of open(2); O_CLOEXEC is added, so that no child process inherits the file.
Result<FileDescriptor> open_file(const std::filesystem::path& path, int flags, mode_t mode = 0600);

/// Reads a whole file. @return too_large above `bytes_max`, before any memory is taken; not_found.
Result<Bytes> read_file(const std::filesystem::path& path, std::uint64_t bytes_max);

/// Reads up to `size` bytes at `offset`; fewer only at the end of the file.
Result<Bytes> read_at(const FileDescriptor& file, const std::filesystem::path& path, std::uint64_t offset,
                      std::size_t size);

/// Writes all of `bytes` at `offset`.
Status write_at(const FileDescriptor& file, const std::filesystem::path& path, std::uint64_t offset,
                ByteSpan bytes);

/// Replaces a file so that a crash leaves either the old or the new content, and the new one once it has
/// returned: temporary file beside it, fdatasync, rename, sync of the folder.
Status write_file_durably(const std::filesystem::path& path, ByteSpan bytes, mode_t mode = 0600);

/// Makes renames, creations and removals in a folder durable.
Status sync_folder(const std::filesystem::path& folder);

/// Makes a folder (0700) and the missing ones above it, durably. Nothing happens if it exists.
Status make_folder(const std::filesystem::path& folder);

/// Holds a folder for one process until it is destroyed or the process ends.
class FolderLock {
 public:
  explicit FolderLock(FileDescriptor file) : file_(std::move(file)) {}

 private:
  FileDescriptor file_;
};

/// Takes the lock FOLDER/LOCK (fcntl(2), F_OFD_SETLK) and writes the process's number into it.
/// @return conflict "… is in use by another process (N)".
Result<FolderLock> lock_folder(const std::filesystem::path& folder);

struct FolderHolder {
  std::optional<int> process;  ///< Its number; nothing before it has written that.

  bool operator==(const FolderHolder&) const = default;
};
/// Who holds a folder, found out without taking the lock. @return nothing if nobody does.
Result<std::optional<FolderHolder>> folder_holder(const std::filesystem::path& folder);

/// Every folder of a store has a file FORMAT, "rivulet <kind> <number>". A fresh folder gets the newest
/// format. Call it with the folder locked.
/// @return the folder's number, from 1 to `newest`; unsupported if it is newer, naming both; corrupt.
Result<std::uint32_t> open_format(const std::filesystem::path& folder, std::string_view kind,
                                  std::uint32_t newest);

}  // namespace rivulet
