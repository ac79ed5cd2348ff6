#include "coordinator/server/open_files.h"

#include <sys/resource.h>

#include "coordinator/server/bounded_server.h"
#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"
#include "tests/catch.h"

using namespace rivulet::coordinator;

TEST_CASE("the limit on open files is raised to what the system allows", "[coordinator][server]") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  struct Restore {
    const rlimit& limit;
    ~Restore() { ::setrlimit(RLIMIT_NOFILE, &limit); }
  } const restore{before};
  const rlimit low{before.rlim_max / 2, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
  CHECK(open_files() == before.rlim_max / 2);
  CHECK(raise_open_files() == before.rlim_max);
  rlimit after{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &after) == 0);
  CHECK(after.rlim_cur == before.rlim_max);
  CHECK(raise_open_files() == before.rlim_max);  // Once more is no harm.
}

TEST_CASE("connections leave files for the store, the blobs and the admin API", "[coordinator][server]") {
  const rivulet::FileBlobOptions blobs;
  const std::uint64_t files = blobs.open_parts_max + blobs.open_blobs_max + rivulet::store_files_open_max;
  for (const std::size_t admin_threads : {2, 8, 256}) {
    const std::uint64_t calls = admin_threads + BoundedServer::Limits().waiting_max;
    CHECK(files_kept_back(admin_threads) >= files + calls + 16);
    CHECK(connections_allowed(65'536, admin_threads) + files_kept_back(admin_threads) == 65'536);
  }
  CHECK(files_kept_back(8) == 400);  // As the operator's guide says.
  CHECK(connections_allowed(1024, 8) == 624);
  CHECK(connections_allowed(801, 8) == 401);
  CHECK(connections_allowed(800, 8) == 400);
  CHECK(connections_allowed(64, 8) == 32);
  CHECK(connections_allowed(0, 8) == 1);
}
