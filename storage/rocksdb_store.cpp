#include "storage/rocksdb_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

#include "storage/crash_point.h"
#include "storage/file.h"
#ifdef RIVULET_CRASH_POINTS
#include "storage/fault_disk.h"
#include "storage/faulty_rocksdb_env.h"
#endif

#ifdef __SANITIZE_THREAD__
// The system's RocksDB is not instrumented, so ThreadSanitizer sees its memory copies and not its atomics.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:librocksdb.so\nrace:rocksdb::\n";
}
#endif

namespace rivulet {

namespace {

namespace fs = std::filesystem;

rocksdb::Slice slice_of(ByteSpan bytes) {
  if (bytes.empty()) return {};  // Its pointer may be null, which RocksDB hands to memcmp.
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
ByteSpan span_of(const rocksdb::Slice& slice) { return bytes_of({slice.data(), slice.size()}); }

Errc errc_of(const rocksdb::Status& status) {
  if (status.IsNoSpace()) return Errc::storage_full;
  if (status.IsCorruption()) return Errc::corrupt;
  if (status.IsIOError()) return Errc::storage;
  if (status.IsInvalidArgument() || status.IsNotSupported()) return Errc::unsupported;
  return Errc::internal;
}

std::unexpected<Error> fail_rocksdb(const fs::path& folder, const rocksdb::Status& status) {
  std::string words = status.ToString();
  std::ranges::replace(words, '\n', ' ');
  return fail(errc_of(status), fmt::format("{}: {}", folder.string(), words));
}

/// Tells the store about failed syncs, which RocksDB's answer to the writer does not set apart.
class SyncWatch final : public rocksdb::EventListener {
 public:
  bool ShouldBeNotifiedOnFileIO() override { return true; }

  void OnIOError(const rocksdb::IOErrorInfo& info) override {
    using rocksdb::FileOperationType;
    if (info.operation == FileOperationType::kSync || info.operation == FileOperationType::kFsync)
      failed_ = true;
  }

  /// When the log itself met the full disk, the next commit opens the database again.
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason reason, rocksdb::Status,
                            bool* auto_recovery) override {
    if (reason == rocksdb::BackgroundErrorReason::kWriteCallback) *auto_recovery = false;
  }

  [[nodiscard]] bool failed() const { return failed_; }

 private:
  std::atomic<bool> failed_ = false;
};

rocksdb::DBOptions database_options(std::shared_ptr<SyncWatch> watch, rocksdb::Env* env) {
  rocksdb::DBOptions options;
  if (env != nullptr) options.env = env;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.paranoid_checks = true;
  options.track_and_verify_wals_in_manifest = true;
  // After a power cut pages of the last write may be missing in its middle, which no mode tells from damage
  // to what had been synced: the stricter ones would not open then. So damage loses what came after it.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.db_write_buffer_size = 16 << 20;
  options.max_total_wal_size = 32 << 20;
  options.max_open_files = store_tables_open_max;
  options.table_cache_numshardbits = 2;
  options.max_background_jobs = 2;
  options.max_file_opening_threads = 1;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.max_log_file_size = 1 << 20;
  options.keep_log_file_num = 2;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.listeners.push_back(std::move(watch));
  return options;
}

rocksdb::ColumnFamilyOptions family_options() {
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = 8 << 20;
  options.arena_block_size = 64 << 10;  // The default, an eighth of the buffer, would cost a MiB a family.
  options.max_write_buffer_number = 2;
  const auto supported = rocksdb::GetSupportedCompressions();
  const bool has_lz4 = std::ranges::find(supported, rocksdb::kLZ4Compression) != supported.end();
  options.compression = has_lz4 ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(8 << 20, 2);
  table.cache_index_and_filter_blocks = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

/// An open RocksDB; closed on destruction.
struct Database {
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> owned_handles;
  std::map<std::string, rocksdb::ColumnFamilyHandle*, std::less<>> handles;  // Of the families asked for.

  Database() = default;
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database() {
    if (!db) return;
    for (auto* handle : owned_handles) std::ignore = db->DestroyColumnFamilyHandle(handle);
    std::ignore = db->Close();  // A failed close loses nothing that was promised: the log has it.
  }
};

class RocksDbStore final : public Store {
 public:
  RocksDbStore(fs::path folder, FolderLock lock, std::vector<std::string> families,
               std::shared_ptr<rocksdb::Env> env)
      : folder_(std::move(folder)),
        lock_(std::move(lock)),
        families_(std::move(families)),
        env_(std::move(env)) {}

  /// Before anybody else sees the object.
  Status open();

  Status commit(const WriteBatch& batch, Durability durability) override;
  Status sync() override;
  Result<std::optional<Bytes>> get(std::string_view family, ByteSpan key) const override;
  Status scan(std::string_view family, ByteSpan prefix, const Visitor& visit, ByteSpan from) const override;
  Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix) const override;

 private:
  /// One family of the open database, which stays open as long as this lives.
  struct Family {
    std::shared_ptr<const Database> database;
    rocksdb::ColumnFamilyHandle* handle = nullptr;

    [[nodiscard]] rocksdb::DB& db() const { return *database->db; }
  };
  Result<Family> find(std::string_view family) const;
  Result<std::shared_ptr<Database>> open_database(bool read_only);
  Status check_writable() const {
    if (!failed_) return {};
    return fail(Errc::storage,
                fmt::format("an earlier write to {} failed, so it is only read: mend the disk and "
                            "start again",
                            folder_.string()));
  }
  Status conclude(const rocksdb::Status& status);
  Status open_again();

  const fs::path folder_;
  const fs::path files_ = folder_ / "rocksdb";
  const FolderLock lock_;
  const std::vector<std::string> families_;
  const std::shared_ptr<rocksdb::Env> env_;  // Shared with the test that lets it fail; outlives database_.
  const std::shared_ptr<SyncWatch> watch_ = std::make_shared<SyncWatch>();  // Shared with RocksDB.

  mutable std::mutex mutex_;
  std::shared_ptr<Database> database_;  // Shared with reads under way; none if it could not be opened again.

  // Of the thread that commits.
  bool failed_ = false;
  bool was_full_ = false;
};

/// A store whose CURRENT was lost must not be mistaken for a new one.
Status check_not_headless(const fs::path& files) {
  std::error_code error;
  if (!fs::exists(files, error) || fs::exists(files / "CURRENT", error)) return {};
  for (const auto& entry : fs::directory_iterator(files, error)) {
    const auto kind = entry.path().extension();
    if (kind == ".sst" || kind == ".log") {
      return fail(Errc::corrupt,
                  fmt::format("{} is missing, though {} holds data: restore the folder from a backup",
                              (files / "CURRENT").string(), files.string()));
    }
  }
  return {};
}

Status RocksDbStore::open() {
  if (auto made = make_folder(files_); !made) return made;
  if (auto whole = check_not_headless(files_); !whole) return whole;
  auto opened = open_database(false);
  if (!opened) return std::unexpected(opened.error());
  database_ = std::move(*opened);
  return {};
}

Result<std::shared_ptr<Database>> RocksDbStore::open_database(bool read_only) {
  const auto options = database_options(watch_, env_.get());
  const auto of_family = family_options();
  std::vector<std::string> names = {rocksdb::kDefaultColumnFamilyName};
  std::error_code ignored;  // If it cannot be told, RocksDB will say why.
  if (fs::exists(files_ / "CURRENT", ignored)) {
    const auto listed = rocksdb::DB::ListColumnFamilies(options, files_.string(), &names);
    if (!listed.ok()) return fail_rocksdb(folder_, listed);
  }
  for (const auto& family : families_) {
    if (std::ranges::find(names, family) == names.end()) names.push_back(family);
  }
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (const auto& name : names) descriptors.emplace_back(name, of_family);

  auto database = std::make_shared<Database>();
  rocksdb::DB* opened = nullptr;
  const auto status =
      read_only ? rocksdb::DB::OpenForReadOnly(options, files_.string(), descriptors,
                                               &database->owned_handles, &opened)
                : rocksdb::DB::Open(options, files_.string(), descriptors, &database->owned_handles, &opened);
  if (!status.ok()) return fail_rocksdb(folder_, status);
  database->db.reset(opened);
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (std::ranges::find(families_, names[i]) == families_.end()) continue;
    database->handles[names[i]] = database->owned_handles[i];
  }
  return database;
}

Result<RocksDbStore::Family> RocksDbStore::find(std::string_view family) const {
  const std::lock_guard lock(mutex_);
  if (!database_)
    return fail(Errc::storage, fmt::format("{} could not be opened again: start again", folder_.string()));
  const auto found = database_->handles.find(family);
  if (found != database_->handles.end()) return Family{database_, found->second};
  return fail(Errc::invalid, fmt::format("{} has no family \"{}\"", folder_.string(), family));
}

Result<std::optional<Bytes>> RocksDbStore::get(std::string_view family, ByteSpan key) const {
  const auto found = find(family);
  if (!found) return std::unexpected(found.error());
  rocksdb::PinnableSlice value;
  const auto status = found->db().Get(rocksdb::ReadOptions(), found->handle, slice_of(key), &value);
  if (status.IsNotFound()) return std::optional<Bytes>();
  if (!status.ok()) return fail_rocksdb(folder_, status);
  return copy_of(span_of(value));
}

Status RocksDbStore::scan(std::string_view family, ByteSpan prefix, const Visitor& visit,
                          ByteSpan from) const {
  const auto found = find(family);
  if (!found) return std::unexpected(found.error());
  const std::unique_ptr<rocksdb::Iterator> cursor(
      found->db().NewIterator(rocksdb::ReadOptions(), found->handle));
  const bool skips = std::ranges::lexicographical_compare(prefix, from);
  for (cursor->Seek(slice_of(skips ? from : prefix)); cursor->Valid(); cursor->Next()) {
    if (!cursor->key().starts_with(slice_of(prefix))) break;
    if (!visit(span_of(cursor->key()), span_of(cursor->value()))) break;
  }
  if (!cursor->status().ok()) return fail_rocksdb(folder_, cursor->status());
  return {};
}

Result<std::optional<Entry>> RocksDbStore::last(std::string_view family, ByteSpan prefix) const {
  const auto found = find(family);
  if (!found) return std::unexpected(found.error());
  const std::unique_ptr<rocksdb::Iterator> cursor(
      found->db().NewIterator(rocksdb::ReadOptions(), found->handle));
  Bytes end = copy_of(prefix);  // The first key behind all that begin with the prefix.
  while (!end.empty() && end.back() == std::byte{0xff}) end.pop_back();
  if (end.empty()) {
    cursor->SeekToLast();
  } else {
    end.back() = static_cast<std::byte>(std::to_integer<unsigned>(end.back()) + 1);
    cursor->SeekForPrev(slice_of(end));
    if (cursor->Valid() && cursor->key() == slice_of(end)) cursor->Prev();
  }
  if (!cursor->status().ok()) return fail_rocksdb(folder_, cursor->status());
  if (!cursor->Valid() || !cursor->key().starts_with(slice_of(prefix))) return std::optional<Entry>();
  return Entry{copy_of(span_of(cursor->key())), copy_of(span_of(cursor->value()))};
}

/// Turns RocksDB's answer to a write into ours. After a failed sync the kernel may have dropped the bytes
/// and call the next sync a success, so only reading the disk again, by opening the store, tells what it
/// has.
Status RocksDbStore::conclude(const rocksdb::Status& status) {
  if (status.ok()) return {};
  if (status.IsNoSpace() && !watch_->failed()) {
    was_full_ = true;
    return fail_rocksdb(folder_, status);
  }
  failed_ = true;
  auto error = fail_rocksdb(folder_, status);
  error.error().code = Errc::storage;
  return error;
}

/// After a full disk the log may end in half a record, which RocksDB 7.8 never writes behind again
/// (DB::Resume begins a new log only if a memtable has something to flush). Opening the database anew reads
/// the log up to there and begins another.
Status RocksDbStore::open_again() {
  const auto full = [&](std::string_view why) {
    return fail(Errc::storage_full,
                fmt::format("{}: the disk was full, and {}: make room", folder_.string(), why));
  };
  const std::uint64_t needed = bytes_to_open(folder_);
  rocksdb::Env* env = env_ ? env_.get() : rocksdb::Env::Default();
  std::uint64_t available = 0;
  if (env->GetFreeSpace(files_.string(), &available).ok() && available < needed) {
    return full(fmt::format("going on needs {} bytes", needed));
  }
  const std::lock_guard lock(mutex_);
  if (database_.use_count() > 1) return full("reads are under way");
  database_.reset();
  auto opened = open_database(false);
  if (opened) {
    database_ = std::move(*opened);
    was_full_ = false;
    return {};
  }
  if (auto readable = open_database(true)) database_ = std::move(*readable);
  if (opened.error().code == Errc::storage_full) return full("still is");
  failed_ = true;
  return fail(Errc::storage, opened.error().detail);
}

Status RocksDbStore::commit(const WriteBatch& batch, Durability durability) {
  if (auto writable = check_writable(); !writable) return writable;
  if (was_full_) {
    if (auto opened = open_again(); !opened) return opened;
  }
  rocksdb::WriteBatch writes;
  for (const Write& write : batch) {
    const auto& family = std::visit([](const auto& one) -> const std::string& { return one.family; }, write);
    const auto found = find(family);
    if (!found) return std::unexpected(found.error());
    const auto added = [&] {
      if (const auto* put = std::get_if<Put>(&write)) {
        return writes.Put(found->handle, slice_of(put->key), slice_of(put->value));
      }
      return writes.Delete(found->handle, slice_of(std::get<Erase>(write).key));
    }();
    if (!added.ok()) return fail_rocksdb(folder_, added);
  }
  crash_point("store.before_commit");
  rocksdb::WriteOptions options;
  options.sync = durability == Durability::synced;
  if (auto done = conclude(database_->db->Write(options, &writes)); !done) return done;
  crash_point("store.after_commit");
  return {};
}

Status RocksDbStore::sync() {
  if (auto writable = check_writable(); !writable) return writable;
  if (was_full_) {
    // Opening reads what the log has of the buffered commits and writes it into a table, synced.
    return open_again();
  }
  return conclude(database_->db->SyncWAL());
}

}  // namespace

std::uint64_t bytes_to_open(const fs::path& folder) {
  // For the files of the store itself: with an eighth of it every opening succeeded.
  std::uint64_t needed = 1 << 20;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder / "rocksdb", error)) {
    std::error_code unknown;
    if (entry.path().extension() != ".log") continue;
    const auto bytes = entry.file_size(unknown);
    if (!unknown) needed += bytes;
  }
  return needed;
}

Result<std::unique_ptr<Store>> open_rocksdb_store(const fs::path& folder, std::vector<std::string> families,
                                                  RocksDbOptions options) {
  if (auto made = make_folder(folder); !made) return std::unexpected(made.error());
  auto lock = lock_folder(folder);
  if (!lock) return std::unexpected(lock.error());
  if (const auto format = open_format(folder, "store", store_format); !format)
    return std::unexpected(format.error());
#ifdef RIVULET_CRASH_POINTS
  if (const auto disk = FaultDisk::from_env(); disk && !options.env)
    options.env = make_faulty_rocksdb_env(disk);
#endif
  auto store =
      std::make_unique<RocksDbStore>(folder, std::move(*lock), std::move(families), std::move(options.env));
  if (auto opened = store->open(); !opened) return std::unexpected(opened.error());
  return store;
}

}  // namespace rivulet
