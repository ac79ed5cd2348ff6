#include "storage/file.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <system_error>

#include "storage/crash_point.h"

namespace rivulet {

namespace fs = std::filesystem;

Errc errc_of_errno(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return Errc::storage_full;
    case EACCES:
    case EPERM: return Errc::permission;
    case ENOENT: return Errc::not_found;
    case EMFILE:
    case ENFILE: return Errc::busy;  // That passes, and says nothing of the disk.
    default: return Errc::storage;
  }
}

std::unexpected<Error> fail_errno(std::string_view doing, const fs::path& path, int error) {
  return fail(errc_of_errno(error),
              fmt::format("cannot {} {}: {}", doing, path.string(), std::generic_category().message(error)));
}

void FileDescriptor::close() {
  if (fd_ >= 0) ::close(fd_);  // What mattered was synced before, so its result tells nothing.
  fd_ = -1;
}

Result<FileDescriptor> open_file(const fs::path& path, int flags, mode_t mode) {
  for (;;) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) return FileDescriptor(fd);
    if (errno != EINTR) return fail_errno("open", path, errno);
  }
}

Result<Bytes> read_at(const FileDescriptor& file, const fs::path& path, std::uint64_t offset,
                      std::size_t size) {
  Bytes bytes(size);
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got =
        ::pread(file.get(), bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read", path, errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

Status write_at(const FileDescriptor& file, const fs::path& path, std::uint64_t offset, ByteSpan bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put =
        ::pwrite(file.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno("write", path, errno);
    done += static_cast<std::size_t>(put);
  }
  return {};
}

Result<Bytes> read_file(const fs::path& path, std::uint64_t bytes_max) {
  auto file = open_file(path, O_RDONLY);
  if (!file) return std::unexpected(file.error());
  struct stat info{};
  if (::fstat(file->get(), &info) != 0) return fail_errno("examine", path, errno);
  if (!S_ISREG(info.st_mode)) return fail(Errc::invalid, path.string() + " is not a regular file");
  if (static_cast<std::uint64_t>(info.st_size) > bytes_max) {
    return fail(Errc::too_large, fmt::format("{} has {} bytes; at most {} are allowed", path.string(),
                                             info.st_size, bytes_max));
  }
  return read_at(*file, path, 0, static_cast<std::size_t>(info.st_size));
}

namespace {

Status write_and_rename(const fs::path& temporary, const fs::path& path, ByteSpan bytes, mode_t mode) {
  auto file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode);
  if (!file) return std::unexpected(file.error());
  // open() leaves the mode of a file that an earlier crash left, and applies the umask.
  if (::fchmod(file->get(), mode) != 0) return fail_errno("set the mode of", temporary, errno);
  if (auto written = write_at(*file, temporary, 0, bytes); !written) return written;
  if (::fdatasync(file->get()) != 0) return fail_errno("sync", temporary, errno);
  crash_point("file.before_rename");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return fail_errno("rename to", path, errno);
  return {};
}

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

Status write_file_durably(const fs::path& path, ByteSpan bytes, mode_t mode) {
  const fs::path temporary = path.string() + ".new";
  if (auto written = write_and_rename(temporary, path, bytes, mode); !written) {
    ::unlink(temporary.c_str());  // Best effort: the next write begins it anew.
    return written;
  }
  crash_point("file.before_folder_sync");
  return sync_folder(parent_of(path));
}

Status sync_folder(const fs::path& folder) {
  const auto file = open_file(folder, O_RDONLY | O_DIRECTORY);
  if (!file) return std::unexpected(file.error());
  if (::fsync(file->get()) != 0) return fail_errno("sync", folder, errno);
  return {};
}

Status make_folder(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0700) == 0) return sync_folder(parent_of(folder));
  if (errno == EEXIST) {
    std::error_code ignored;  // What cannot be examined is not a folder that we can use either.
    if (fs::is_directory(folder, ignored)) return {};
    return fail(Errc::conflict, folder.string() + " exists and is not a folder");
  }
  const fs::path parent = parent_of(folder);
  if (errno != ENOENT || parent == folder || !folder.has_parent_path()) {
    return fail_errno("make the folder", folder, errno);
  }
  if (auto made = make_folder(parent); !made) return made;
  // Once more and no oftener: below /proc, say, nothing can be made though the parent is there.
  if (::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST) return sync_folder(parent);
  return fail_errno("make the folder", folder, errno);
}

namespace {

/// The number in a LOCK file; nothing before its holder has written it.
std::optional<int> number_in(const FileDescriptor& file, const fs::path& path) {
  const auto bytes = read_at(file, path, 0, 20);
  if (!bytes) return std::nullopt;
  const std::string_view text = text_of(*bytes);
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() ? std::optional(number) : std::nullopt;
}

/// Of the whole file, as fcntl(2) takes it. "Open file description" locks end with the file that took them,
/// and can be asked for without being taken.
struct flock whole_file() {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

Result<FolderLock> lock_folder(const fs::path& folder) {
  const fs::path path = folder / "LOCK";
  auto file = open_file(path, O_RDWR | O_CREAT);
  if (!file) return std::unexpected(file.error());
  struct flock lock = whole_file();
  if (::fcntl(file->get(), F_OFD_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) return fail_errno("lock", path, errno);
    const auto holder = number_in(*file, path);
    return fail(Errc::conflict, fmt::format("{} is in use by another process{}: stop it first",
                                            folder.string(), holder ? fmt::format(" ({})", *holder) : ""));
  }
  const std::string number = fmt::format("{}\n", ::getpid());
  // In place, since it shall be there on a full disk too, where it must not keep a program from starting
  // either.
  const bool written = write_at(*file, path, 0, bytes_of(number)).has_value();
  std::ignore = ::ftruncate(file->get(), written ? static_cast<off_t>(number.size()) : 0);
  return FolderLock(std::move(*file));
}

Result<std::optional<FolderHolder>> folder_holder(const fs::path& folder) {
  const fs::path path = folder / "LOCK";
  const auto file = open_file(path, O_RDONLY);
  if (!file && file.error().code == Errc::not_found) return std::optional<FolderHolder>();
  if (!file) return std::unexpected(file.error());
  struct flock lock = whole_file();
  if (::fcntl(file->get(), F_OFD_GETLK, &lock) != 0) return fail_errno("look at", path, errno);
  if (lock.l_type == F_UNLCK) return std::optional<FolderHolder>();
  return FolderHolder{number_in(*file, path)};
}

Result<std::uint32_t> open_format(const fs::path& folder, std::string_view kind, std::uint32_t newest) {
  const fs::path path = folder / "FORMAT";
  const auto content = read_file(path, 64);
  if (!content && content.error().code == Errc::not_found) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const fs::path found = entry.path().filename();
      if (found == "LOCK" || found == "FORMAT.new") continue;
      return fail(Errc::corrupt,
                  fmt::format("{} is missing, though {} holds other files: restore it from a backup, "
                              "or name an empty folder",
                              path.string(), folder.string()));
    }
    if (error) return fail_errno("list", folder, error.value());
    const std::string text = fmt::format("rivulet {} {}\n", kind, newest);
    if (auto written = write_file_durably(path, bytes_of(text)); !written)
      return std::unexpected(written.error());
    return newest;
  }
  if (!content) return std::unexpected(content.error());

  const std::string_view text = text_of(*content);
  const std::string start = fmt::format("rivulet {} ", kind);
  std::uint32_t number = 0;
  if (text.starts_with(start)) {
    const std::string_view digits = text.substr(start.size());
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc{} || std::string_view(end, digits.data() + digits.size()) != "\n") number = 0;
  }
  if (number == 0) {
    return fail(Errc::corrupt,
                fmt::format("{} is not the format file of a {} folder: restore it from a backup, or "
                            "name another folder",
                            path.string(), kind));
  }
  if (number > newest) {
    return fail(Errc::unsupported,
                fmt::format("{} says format {}, and this program reads formats up to {}: install "
                            "a newer one",
                            path.string(), number, newest));
  }
  return number;
}

}  // namespace rivulet
