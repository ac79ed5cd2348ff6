#include "link/disk.h"

#include <spdlog/fmt/fmt.h>

namespace rivulet {
namespace {

namespace fs = std::filesystem;

/// For the files of the store itself: with an eighth of it every opening succeeded.
constexpr std::uint64_t own_bytes = 1 << 20;

}  // namespace

Status check_room_to_open(const fs::path& store) {
  std::uint64_t needed = own_bytes;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(store / "rocksdb", error)) {
    std::error_code unknown;
    if (entry.path().extension() != ".log") continue;
    const auto bytes = entry.file_size(unknown);
    if (!unknown) needed += bytes;
  }
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
