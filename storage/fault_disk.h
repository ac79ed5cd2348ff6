#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "protocol/bytes.h"
#include "protocol/result.h"
#include "storage/file_operations.h"

namespace rivulet {

/// A disk that fails on demand, laid over real files: the rules that a faulty FileOperations and a faulty
/// RocksDB file system share. In test builds only. Thread-safe.
///
/// It knows which bytes of each file were synced, and which creations and renames the sync of their folder
/// has made durable; crash() puts the real files back to that. It is as strict as POSIX: a file whose
/// folder was never synced is gone. Removals count as durable at once.
///
/// Programs take one from the environment variable RIVULET_FAULT_FS, a list of these with commas between:
///   forget_unsynced    a crash point drops what was not synced before it kills
///   lie_about_sync     syncs are reported and not done
///   enospc_after=N     after N more bytes the disk is full
///   eio_after=N        after N more writes and syncs each one fails with EIO
class FaultDisk {
 public:
  /// The number of bytes that fit from now on; nothing: no bound.
  void set_space(std::optional<std::uint64_t> bytes);
  /// The system says that there is room, whatever set_space() said, as it does under a user's quota.
  void hide_fullness(bool hides);
  /// After this many more writes and syncs each one fails with EIO; nothing: none does.
  void fail_after(std::optional<std::uint64_t> operations);
  /// Every sync fails with EIO; what it was to sync never becomes durable, as after a real one.
  void fail_syncs(bool fails);
  void lie_about_sync(bool lies);

  /// Drops everything that was not synced and fails all writing until restart().
  void crash();
  void restart();

  // What the wrappers report before they do it. The results are errno values, 0 for "go on".

  /// A file is opened: new and empty if `created`, else with its present bytes durable.
  int opening(const std::filesystem::path& file, bool created);
  /// @return how many of `bytes` fit, and what to answer; the caller writes that many.
  struct Grant {
    std::uint64_t bytes = 0;
    int error = 0;
  };
  Grant grant_write(const std::filesystem::path& file, std::uint64_t offset, std::uint64_t bytes);
  /// What the system says is free; nothing: what the real disk has.
  std::optional<std::uint64_t> space();
  int truncating(const std::filesystem::path& file, std::uint64_t length);
  int syncing(const std::filesystem::path& file);
  int syncing_folder(const std::filesystem::path& folder);
  int renaming(const std::filesystem::path& from, const std::filesystem::path& to);
  int removing(const std::filesystem::path& file);

  /// The disk of RIVULET_FAULT_FS, one for the whole process; none if it is not set, or wrong.
  static std::shared_ptr<FaultDisk> from_env();
  /// @return invalid if RIVULET_FAULT_FS is wrong.
  static Status check_env();

 private:
  struct File {
    std::uint64_t length = 0;
    std::uint64_t synced = 0;
    bool entry_durable = true;
    bool lost = false;  // A sync failed: the kernel dropped its pages, and no later sync brings them back.
  };
  struct Rename {
    std::filesystem::path from;
    std::filesystem::path to;
    std::optional<Bytes> replaced;
  };

  int use_operation();

  std::mutex mutex_;
  std::optional<std::uint64_t> space_;
  std::optional<std::uint64_t> operations_;
  bool hides_fullness_ = false;
  bool fail_syncs_ = false;
  bool lies_ = false;
  bool crashed_ = false;
  std::map<std::filesystem::path, File> files_;
  std::vector<Rename> renames_;  // Not durable yet, oldest first.
};

std::shared_ptr<FileOperations> make_faulty_file_operations(std::shared_ptr<FaultDisk> disk);

}  // namespace rivulet
