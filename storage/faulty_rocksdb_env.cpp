#include "storage/faulty_rocksdb_env.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <unistd.h>

#include <cerrno>

namespace rivulet {

namespace {

using rocksdb::FileOptions;
using rocksdb::FSDirectory;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus io_status(int error) {
  if (error == 0) return IOStatus::OK();
  return error == ENOSPC ? IOStatus::NoSpace("injected: no space left on device")
                         : IOStatus::IOError("injected: input/output error");
}

class FaultyWritableFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultyWritableFile(std::unique_ptr<FSWritableFile> file, std::string path, std::uint64_t length,
                     std::shared_ptr<FaultDisk> disk)
      : FSWritableFileOwnerWrapper(std::move(file)),
        path_(std::move(path)),
        length_(length),
        disk_(std::move(disk)) {}

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* context) override {
    const auto grant = disk_->grant_write(path_, length_, data.size());
    if (grant.bytes > 0) {
      const auto written =
          FSWritableFileOwnerWrapper::Append(Slice(data.data(), grant.bytes), options, context);
      if (!written.ok()) return written;
    }
    length_ += grant.bytes;
    return io_status(grant.error);
  }
  IOStatus Append(const Slice& data, const IOOptions& options, const rocksdb::DataVerificationInfo&,
                  IODebugContext* context) override {
    return Append(data, options, context);
  }
  IOStatus Truncate(std::uint64_t size, const IOOptions& options, IODebugContext* context) override {
    if (const int error = disk_->truncating(path_, size)) return io_status(error);
    length_ = size;
    return FSWritableFileOwnerWrapper::Truncate(size, options, context);
  }
  // The model answers for the disk; really syncing would only make the tests slow.
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return io_status(disk_->syncing(path_)); }
  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return io_status(disk_->syncing(path_)); }
  IOStatus RangeSync(std::uint64_t, std::uint64_t, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();  // Only a hint to the kernel; it promises nothing.
  }

 private:
  const std::string path_;
  std::uint64_t length_;
  const std::shared_ptr<FaultDisk> disk_;  // Shared with the test that steers it.
};

class FaultyDirectory final : public FSDirectory {
 public:
  FaultyDirectory(std::unique_ptr<FSDirectory> folder, std::string path, std::shared_ptr<FaultDisk> disk)
      : folder_(std::move(folder)), path_(std::move(path)), disk_(std::move(disk)) {
    while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  }
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    return io_status(disk_->syncing_folder(path_));
  }
  IOStatus Close(const IOOptions& options, IODebugContext* context) override {
    return folder_->Close(options, context);
  }
  std::size_t GetUniqueId(char* id, std::size_t max_size) const override {
    return folder_->GetUniqueId(id, max_size);
  }

 private:
  const std::unique_ptr<FSDirectory> folder_;
  std::string path_;
  const std::shared_ptr<FaultDisk> disk_;  // Shared with the test that steers it.
};

class FaultyFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit FaultyFileSystem(std::shared_ptr<FaultDisk> disk)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), disk_(std::move(disk)) {}

  const char* Name() const override { return "RivuletFaultyFileSystem"; }

  IOStatus NewWritableFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<FSWritableFile>* result, IODebugContext* context) override {
    if (const int error = disk_->opening(path, true)) return io_status(error);
    std::unique_ptr<FSWritableFile> file;
    if (auto made = FileSystemWrapper::NewWritableFile(path, options, &file, context); !made.ok())
      return made;
    *result = std::make_unique<FaultyWritableFile>(std::move(file), path, 0, disk_);
    return IOStatus::OK();
  }
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions& options,
                              std::unique_ptr<FSWritableFile>* result, IODebugContext* context) override {
    if (const int error = disk_->opening(path, ::access(path.c_str(), F_OK) != 0)) return io_status(error);
    std::unique_ptr<FSWritableFile> file;
    if (auto made = FileSystemWrapper::ReopenWritableFile(path, options, &file, context); !made.ok())
      return made;
    const std::uint64_t length = file->GetFileSize(IOOptions(), nullptr);
    *result = std::make_unique<FaultyWritableFile>(std::move(file), path, length, disk_);
    return IOStatus::OK();
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions& options,
                        std::unique_ptr<FSDirectory>* result, IODebugContext* context) override {
    std::unique_ptr<FSDirectory> folder;
    if (auto made = FileSystemWrapper::NewDirectory(path, options, &folder, context); !made.ok()) return made;
    *result = std::make_unique<FaultyDirectory>(std::move(folder), path, disk_);
    return IOStatus::OK();
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions& options, IODebugContext* context) override {
    if (const int error = disk_->removing(path)) return io_status(error);
    return FileSystemWrapper::DeleteFile(path, options, context);
  }
  IOStatus Truncate(const std::string& path, std::size_t size, const IOOptions& options,
                    IODebugContext* context) override {
    if (const int error = disk_->truncating(path, size)) return io_status(error);
    return FileSystemWrapper::Truncate(path, size, options, context);
  }
  IOStatus GetFreeSpace(const std::string& path, const IOOptions& options, std::uint64_t* free,
                        IODebugContext* context) override {
    const auto space = disk_->space();
    if (!space) return FileSystemWrapper::GetFreeSpace(path, options, free, context);
    *free = *space;
    return IOStatus::OK();
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* context) override {
    if (const int error = disk_->renaming(from, to)) return io_status(error);
    return FileSystemWrapper::RenameFile(from, to, options, context);
  }

 private:
  const std::shared_ptr<FaultDisk> disk_;  // Shared with the test that steers it.
};

}  // namespace

std::shared_ptr<rocksdb::Env> make_faulty_rocksdb_env(std::shared_ptr<FaultDisk> disk) {
  return rocksdb::NewCompositeEnv(std::make_shared<FaultyFileSystem>(std::move(disk)));
}

}  // namespace rivulet
