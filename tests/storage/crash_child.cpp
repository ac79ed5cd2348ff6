// storage_crash_child FOLDER COUNT: works on the stores in FOLDER and prints the number of each item that is
// acknowledged, until it is done (status 0), meets an error (status 1) or is killed at a crash point.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "storage/crash_point.h"
#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"
#include "tests/storage/workload.h"

using namespace rivulet;

namespace {

Status run(const std::filesystem::path& folder, std::uint64_t count) {
  if (auto known = check_crash_point_env(); !known) return known;
  auto store = open_rocksdb_store(folder / "store", workload_families);
  if (!store) return std::unexpected(store.error());
  auto blobs = open_file_blob_store(folder / "blobs");
  if (!blobs) return std::unexpected(blobs.error());
  return work(**store, **blobs, count, [](std::uint64_t item) {
    const std::string line = std::to_string(item) + "\n";
    // Unbuffered: what stayed in this process would look like an item that was never acknowledged.
    if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) std::abort();
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const auto done = run(argv[1], std::strtoull(argv[2], nullptr, 10));
  if (!done) std::fprintf(stderr, "%s: %s\n", name(done.error().code), done.error().detail.c_str());
  return done ? 0 : 1;
}
