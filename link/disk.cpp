#include "link/disk.h"

#include <spdlog/fmt/fmt.h>

#include "storage/rocksdb_store.h"

namespace rivulet {

namespace fs = std::filesystem;

Status check_room_to_open(const fs::path& store) {
  const std::uint64_t needed = bytes_to_open(store);
  std::error_code error;
  // The store of a new folder will lie where its parent does.
  fs::path there = fs::absolute(store, error);
  while (there.has_relative_path() && !fs::exists(there, error)) there = there.parent_path();
  const auto space = fs::space(there, error);
  if (error || space.available >= needed) return {};  // What cannot be told, opening will tell.
  return fail(Errc::storage_full,
              fmt::format("{}: the disk has {} bytes left, and opening this store takes {}: make room",
                          store.string(), space.available, needed));
}

Error told_to_mend(Error error) {
  constexpr std::string_view advice = "mend the disk and start again";
  if (error.code == Errc::storage && error.detail.find(advice) == std::string::npos)
    error.detail += fmt::format(": {}", advice);
  return error;
}

}  // namespace rivulet
