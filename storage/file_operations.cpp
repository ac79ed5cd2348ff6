#include "storage/file_operations.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace rivulet {

namespace {

namespace fs = std::filesystem;

class PosixFileOperations final : public FileOperations {
 public:
  Result<FileDescriptor> open(const fs::path& path) override { return open_file(path, O_RDWR | O_CREAT); }

  Status write(const FileDescriptor& file, const fs::path& path, std::uint64_t offset,
               ByteSpan bytes) override {
    return write_at(file, path, offset, bytes);
  }

  Status truncate(const FileDescriptor& file, const fs::path& path, std::uint64_t length) override {
    if (::ftruncate(file.get(), static_cast<off_t>(length)) == 0) return {};
    return fail_errno("shorten", path, errno);
  }

  Status sync(const FileDescriptor& file, const fs::path& path) override {
    if (::fdatasync(file.get()) == 0) return {};
    return fail_errno("sync", path, errno);
  }

  Status rename(const fs::path& from, const fs::path& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return {};
    return fail_errno("rename to", to, errno);
  }

  Status sync_folder(const fs::path& folder) override { return rivulet::sync_folder(folder); }

  Status remove(const fs::path& path) override {
    if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
    return fail_errno("remove", path, errno);
  }
};

}  // namespace

std::shared_ptr<FileOperations> make_file_operations() { return std::make_shared<PosixFileOperations>(); }

}  // namespace rivulet
