#include "coordinator/server/open_files.h"

#include <sys/resource.h>

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

TEST_CASE("connections leave files for the store and the admin API", "[coordinator][server]") {
  CHECK(connections_allowed(1024) == 896);
  CHECK(connections_allowed(1'048'576) == 1'048'448);
  CHECK(connections_allowed(257) == 129);
  CHECK(connections_allowed(256) == 128);
  CHECK(connections_allowed(64) == 32);
  CHECK(connections_allowed(0) == 1);
}
