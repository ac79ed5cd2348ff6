#include "storage/fault_disk.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <fstream>

#include "storage/crash_point.h"

namespace rivulet {

namespace fs = std::filesystem;

void FaultDisk::set_space(std::optional<std::uint64_t> bytes) {
  const std::lock_guard lock(mutex_);
  space_ = bytes;
}

void FaultDisk::hide_fullness(bool hides) {
  const std::lock_guard lock(mutex_);
  hides_fullness_ = hides;
}

void FaultDisk::fail_after(std::optional<std::uint64_t> operations) {
  const std::lock_guard lock(mutex_);
  operations_ = operations;
}

void FaultDisk::fail_syncs(bool fails) {
  const std::lock_guard lock(mutex_);
  fail_syncs_ = fails;
}

void FaultDisk::lie_about_sync(bool lies) {
  const std::lock_guard lock(mutex_);
  lies_ = lies;
}

void FaultDisk::crash() {
  const std::lock_guard lock(mutex_);
  crashed_ = true;
  std::error_code ignored;  // A file that is gone needs no putting back.
  for (auto rename = renames_.rbegin(); rename != renames_.rend(); ++rename) {
    fs::rename(rename->to, rename->from, ignored);
    if (auto moved = files_.extract(rename->to); !moved.empty()) {
      moved.key() = rename->from;
      files_.insert(std::move(moved));
    }
    if (rename->replaced) {
      std::ofstream(rename->to, std::ios::binary) << text_of(*rename->replaced);
    }
  }
  for (const auto& [path, file] : files_) {
    if (!file.entry_durable) {
      fs::remove(path, ignored);
    } else if (fs::exists(path, ignored) && fs::file_size(path, ignored) > file.synced) {
      fs::resize_file(path, file.synced, ignored);
    }
  }
  renames_.clear();
  files_.clear();
}

void FaultDisk::restart() {
  const std::lock_guard lock(mutex_);
  crashed_ = false;
  fail_syncs_ = false;
  space_.reset();
  operations_.reset();
}

int FaultDisk::use_operation() {
  if (crashed_) return EIO;
  if (!operations_) return 0;
  if (*operations_ == 0) return EIO;
  --*operations_;
  return 0;
}

int FaultDisk::opening(const fs::path& file, bool created) {
  const std::lock_guard lock(mutex_);
  if (crashed_) return EIO;
  if (created) {
    files_[file] = File{.entry_durable = false};
  } else if (!files_.contains(file)) {
    std::error_code ignored;
    const std::uint64_t length = fs::file_size(file, ignored);
    files_[file] = File{.length = length, .synced = length};
  }
  return 0;
}

FaultDisk::Grant FaultDisk::grant_write(const fs::path& file, std::uint64_t offset, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (const int error = use_operation(); error != 0) return {0, error};
  Grant grant{bytes, 0};
  if (space_ && *space_ < bytes) grant = {*space_, ENOSPC};
  if (space_) *space_ -= grant.bytes;
  File& state = files_[file];
  state.length = std::max(state.length, offset + grant.bytes);
  state.synced = std::min(state.synced, offset);
  return grant;
}

std::optional<std::uint64_t> FaultDisk::space() {
  const std::lock_guard lock(mutex_);
  return hides_fullness_ ? std::nullopt : space_;
}

int FaultDisk::truncating(const fs::path& file, std::uint64_t length) {
  const std::lock_guard lock(mutex_);
  if (crashed_) return EIO;
  File& state = files_[file];
  state.length = length;
  state.synced = std::min(state.synced, length);
  return 0;
}

int FaultDisk::syncing(const fs::path& file) {
  const std::lock_guard lock(mutex_);
  File& state = files_[file];
  const int error = use_operation();
  if (error != 0 || fail_syncs_) {
    state.lost = true;
    return EIO;
  }
  if (!lies_ && !state.lost) state.synced = state.length;
  return 0;
}

int FaultDisk::syncing_folder(const fs::path& folder) {
  const std::lock_guard lock(mutex_);
  if (const int error = use_operation(); error != 0 || fail_syncs_) return EIO;
  if (lies_) return 0;
  for (auto& [path, file] : files_) {
    if (path.parent_path() == folder) file.entry_durable = true;
  }
  std::erase_if(renames_, [&](const Rename& rename) { return rename.to.parent_path() == folder; });
  return 0;
}

int FaultDisk::renaming(const fs::path& from, const fs::path& to) {
  const std::lock_guard lock(mutex_);
  if (crashed_) return EIO;
  Rename rename{from, to, std::nullopt};
  if (auto old = read_file(to, 64 << 20)) rename.replaced = std::move(*old);
  renames_.push_back(std::move(rename));
  files_.erase(to);
  if (auto moved = files_.extract(from); !moved.empty()) {
    moved.key() = to;
    files_.insert(std::move(moved));
  }
  return 0;
}

int FaultDisk::removing(const fs::path& file) {
  const std::lock_guard lock(mutex_);
  if (crashed_) return EIO;
  files_.erase(file);
  std::erase_if(renames_, [&](const Rename& rename) { return rename.to == file; });
  return 0;
}

namespace {

struct EnvFaults {
  bool forget = false;
  bool lie = false;
  std::optional<std::uint64_t> space;
  std::optional<std::uint64_t> operations;
};

Result<EnvFaults> parse(std::string_view text) {
  EnvFaults faults;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    const std::string_view name = word.substr(0, word.find('='));
    const std::string_view digits = word.substr(std::min(word.size(), name.size() + 1));
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    const bool has_number = error == std::errc{} && end == digits.data() + digits.size();
    if (word == "forget_unsynced") {
      faults.forget = true;
    } else if (word == "lie_about_sync") {
      faults.lie = true;
    } else if (name == "enospc_after" && has_number) {
      faults.space = number;
    } else if (name == "eio_after" && has_number) {
      faults.operations = number;
    } else {
      return fail(Errc::invalid,
                  fmt::format("RIVULET_FAULT_FS: there is no fault \"{}\"; there are forget_unsynced, "
                              "lie_about_sync, enospc_after=BYTES and eio_after=COUNT",
                              word));
    }
  }
  return faults;
}

}  // namespace

std::shared_ptr<FaultDisk> FaultDisk::from_env() {
  static const std::shared_ptr<FaultDisk> disk = []() -> std::shared_ptr<FaultDisk> {
    const char* text = std::getenv("RIVULET_FAULT_FS");
    if (text == nullptr || *text == '\0') return nullptr;
    const auto faults = parse(text);
    if (!faults) return nullptr;
    auto made = std::make_shared<FaultDisk>();
    made->set_space(faults->space);
    made->fail_after(faults->operations);
    made->lie_about_sync(faults->lie);
    if (faults->forget) set_crash_hook([] { from_env()->crash(); });
    return made;
  }();
  return disk;
}

Status FaultDisk::check_env() {
  const char* text = std::getenv("RIVULET_FAULT_FS");
  if (text == nullptr) return {};
  if (auto faults = parse(text); !faults) return std::unexpected(faults.error());
  return {};
}

namespace {

class FaultyFileOperations final : public FileOperations {
 public:
  explicit FaultyFileOperations(std::shared_ptr<FaultDisk> disk) : disk_(std::move(disk)) {}

  Result<FileDescriptor> open(const fs::path& path) override {
    const bool created = ::access(path.c_str(), F_OK) != 0;
    if (const int error = disk_->opening(path, created)) return fail_errno("open", path, error);
    return real_->open(path);
  }

  Status write(const FileDescriptor& file, const fs::path& path, std::uint64_t offset,
               ByteSpan bytes) override {
    const auto grant = disk_->grant_write(path, offset, bytes.size());
    if (auto done = real_->write(file, path, offset, bytes.first(grant.bytes)); !done) return done;
    return grant.error == 0 ? Status{} : Status(fail_errno("write", path, grant.error));
  }

  Status truncate(const FileDescriptor& file, const fs::path& path, std::uint64_t length) override {
    if (const int error = disk_->truncating(path, length)) return fail_errno("shorten", path, error);
    return real_->truncate(file, path, length);
  }

  Status sync(const FileDescriptor&, const fs::path& path) override {
    if (const int error = disk_->syncing(path)) return fail_errno("sync", path, error);
    return {};
  }

  Status rename(const fs::path& from, const fs::path& to) override {
    if (const int error = disk_->renaming(from, to)) return fail_errno("rename to", to, error);
    return real_->rename(from, to);
  }

  Status sync_folder(const fs::path& folder) override {
    if (const int error = disk_->syncing_folder(folder)) return fail_errno("sync", folder, error);
    return {};
  }

  Status remove(const fs::path& path) override {
    if (const int error = disk_->removing(path)) return fail_errno("remove", path, error);
    return real_->remove(path);
  }

 private:
  const std::shared_ptr<FaultDisk> disk_;  // Shared with the test that steers it.
  const std::shared_ptr<FileOperations> real_ = make_file_operations();
};

}  // namespace

std::shared_ptr<FileOperations> make_faulty_file_operations(std::shared_ptr<FaultDisk> disk) {
  return std::make_shared<FaultyFileOperations>(std::move(disk));
}

}  // namespace rivulet
