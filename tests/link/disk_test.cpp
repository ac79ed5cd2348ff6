#include "link/disk.h"

#include <filesystem>
#include <fstream>

#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
namespace fs = std::filesystem;

TEST_CASE("a store is opened only where what its logs hold finds room as tables", "[link][disk]") {
  const TemporaryFolder folder;
  const fs::path store = folder.path / "store";
  CHECK(check_room_to_open(store));  // Which is still to be made: this disk has a MiB left.
  fs::create_directories(store / "rocksdb");
  CHECK(check_room_to_open(store));

  // A file of 4 TiB that takes no room, as no test has a disk to fill.
  std::ofstream(store / "rocksdb" / "000007.log").put('x');
  fs::resize_file(store / "rocksdb" / "000007.log", std::uintmax_t{4} << 40);
  const Status status = check_room_to_open(store);
  REQUIRE_FALSE(status.has_value());
  CHECK(status.error().code == Errc::storage_full);
  CHECK(status.error().detail.starts_with(store.string() + ": the disk has "));
  CHECK(
      status.error().detail.ends_with(" bytes left, and opening this store takes 4398047559680: make room"));

  fs::rename(store / "rocksdb" / "000007.log", store / "rocksdb" / "000007.sst");  // A table stays as it is.
  CHECK(check_room_to_open(store));
}

TEST_CASE("the failure of a disk comes with advice, once", "[link][disk]") {
  const Error told = told_to_mend({Errc::storage, "D/store: input/output error"});
  CHECK(told.code == Errc::storage);
  CHECK(told.detail == "D/store: input/output error: mend the disk and start again");
  CHECK(told_to_mend(told).detail == told.detail);
  CHECK(told_to_mend({Errc::conflict, "D is in use"}).detail == "D is in use");
}
