#pragma once

#include <filesystem>

#include "protocol/result.h"

namespace rivulet {

/// Whether the file system of a RocksDB store's folder has room enough to open it, or to begin it: opening
/// writes what the logs hold into tables, and RocksDB 7.8 ends the process when those meet a full disk.
/// @return storage_full, naming the folder and how much is missing.
Status check_room_to_open(const std::filesystem::path& store);

/// With what the operator of a daemon is to do about it, if it is the failure of a disk.
Error told_to_mend(Error error);

}  // namespace rivulet
