#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "storage/store.h"

namespace rocksdb {
class Env;
}

namespace rivulet {

struct RocksDbOptions {
  /// None: the operating system's files. Shared with the test that lets them fail.
  std::shared_ptr<rocksdb::Env> env = nullptr;
};

/// Opens or makes a store in a folder of its own: FORMAT and LOCK (file.h), and RocksDB's files in rocksdb/.
/// Families that an older program left are kept, unreachable.
///
/// Tuned to stay slim rather than fast: memtables of at most 16 MiB together, 8 MiB of block cache, 64 open
/// files, two background threads.
///
/// A log that the disk damaged, or a power cut left torn, is read up to there: what was written after it is
/// gone, which after a power cut is nothing that had been synced.
/// @return conflict if another process (or object) holds the folder; unsupported if its format is newer;
/// corrupt, permission, storage, storage_full.
Result<std::unique_ptr<Store>> open_rocksdb_store(const std::filesystem::path& folder,
                                                  std::vector<std::string> families,
                                                  RocksDbOptions options = {});

/// Files that such a store holds open at most: tables, and besides them logs, manifest, locks and what a
/// flush or a compaction writes.
inline constexpr std::size_t store_tables_open_max = 64;
inline constexpr std::size_t store_files_open_max = store_tables_open_max + 16;

/// How much room on its disk opening, or beginning, such a store takes: what its logs hold is written into
/// tables.
std::uint64_t bytes_to_open(const std::filesystem::path& folder);

/// The newest form of such a folder.
inline constexpr std::uint32_t store_format = 1;

}  // namespace rivulet
