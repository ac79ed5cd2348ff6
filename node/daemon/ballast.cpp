#include "node/daemon/ballast.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

namespace rivulet::node {
namespace {

/// The most that the logs of a store hold (rocksdb_store.cpp), and its other files.
constexpr std::uint64_t bytes_max = 34 << 20;
constexpr std::uint64_t bytes_min = 1 << 20;

}  // namespace

void keep_ballast(const FolderPaths& paths) {
  std::error_code error;
  const auto space = std::filesystem::space(paths.folder, error);
  if (error) return;
  const auto file = open_file(paths.ballast_file, O_RDWR | O_CREAT);
  struct stat info{};
  if (!file || ::fstat(file->get(), &info) != 0) return;
  const auto kept = static_cast<std::uint64_t>(info.st_size);
  std::uint64_t wanted = std::min(bytes_max, std::max(bytes_min, (space.available + kept) / 8));
  // Half of it is better than none.
  while (wanted > kept && wanted >= bytes_min &&
         ::fallocate(file->get(), 0, 0, static_cast<off_t>(wanted)) != 0) {
    wanted /= 2;
  }
}

bool drop_ballast(const FolderPaths& paths) {
  std::error_code error;
  return std::filesystem::remove(paths.ballast_file, error);
}

}  // namespace rivulet::node
