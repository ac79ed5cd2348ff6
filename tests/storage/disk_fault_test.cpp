#include <spdlog/fmt/fmt.h>

#include <fstream>

#include "storage/fault_disk.h"
#include "storage/faulty_rocksdb_env.h"
#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"
#include "tests/catch.h"
#include "tests/storage/workload.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
namespace fs = std::filesystem;

namespace {

/// Both stores in one folder, on a disk that can fail.
struct Machine {
  TemporaryFolder folder;
  std::shared_ptr<FaultDisk> disk = std::make_shared<FaultDisk>();
  std::unique_ptr<Store> store;
  std::unique_ptr<BlobStore> blobs;

  Status start() {
    auto opened =
        open_rocksdb_store(folder.path / "store", workload_families, {.env = make_faulty_rocksdb_env(disk)});
    if (!opened) return std::unexpected(opened.error());
    auto opened_blobs =
        open_file_blob_store(folder.path / "blobs", {.operations = make_faulty_file_operations(disk)});
    if (!opened_blobs) return std::unexpected(opened_blobs.error());
    store = std::move(*opened);
    blobs = std::move(*opened_blobs);
    return {};
  }
  /// Forgets what was not synced, and comes up again without faults.
  void crash_and_restart() {
    disk->crash();
    store.reset();
    blobs.reset();
    disk->restart();
    const auto started = start();
    INFO((started ? std::string() : started.error().detail));
    REQUIRE(started);
  }
};

Bytes bytes(std::string_view text) { return copy_of(bytes_of(text)); }
ContentId id_of(std::string_view text) { return content_id_of(bytes_of(text)); }

}  // namespace

TEST_CASE("wherever the disk begins to fail, a restart finds all that was acknowledged",
          "[storage][faults]") {
  bool finished = false;
  for (std::uint64_t operations = 0; !finished; ++operations) {
    CAPTURE(operations);
    Machine machine;
    machine.disk->fail_after(operations);
    std::uint64_t acknowledged = 0;
    auto done = machine.start();
    if (done)
      done = work(*machine.store, *machine.blobs, 4, [&](std::uint64_t item) { acknowledged = item; });
    finished = done.has_value();
    if (!finished) {
      CAPTURE(done.error().detail);
      CHECK(done.error().code == Errc::storage);
    }
    machine.crash_and_restart();
    CHECK(find_loss(*machine.store, *machine.blobs, acknowledged) == "");
    CHECK(work(*machine.store, *machine.blobs, 2, [&](std::uint64_t item) { acknowledged = item; }));
    machine.crash_and_restart();
    CHECK(find_loss(*machine.store, *machine.blobs, acknowledged) == "");
    REQUIRE(operations < 500);  // Else nothing ever succeeds.
  }
}

TEST_CASE("wherever the disk becomes full, work goes on when there is room again", "[storage][faults]") {
  const bool hidden = GENERATE(false, true);
  bool finished = false;
  int refusals = 0;
  for (std::uint64_t space = 0; !finished; space += 61) {
    CAPTURE(space, hidden);
    Machine machine;
    machine.disk->hide_fullness(hidden);
    REQUIRE(machine.start());
    machine.disk->set_space(space);
    std::uint64_t acknowledged = 0;
    const auto acknowledge = [&](std::uint64_t item) { acknowledged = item; };
    const auto done = work(*machine.store, *machine.blobs, 4, acknowledge);
    finished = done.has_value();
    if (!finished) {
      ++refusals;
      CAPTURE(done.error().detail);
      CHECK(done.error().code == Errc::storage_full);
      CHECK(find_loss(*machine.store, *machine.blobs, acknowledged) == "");
      const auto still = work(*machine.store, *machine.blobs, 1, acknowledge);
      CAPTURE(still.has_value() ? "" : still.error().detail);
      CHECK((!still && still.error().code == Errc::storage_full));
      CHECK(find_loss(*machine.store, *machine.blobs, acknowledged) == "");
      machine.disk->set_space(std::nullopt);
      const auto again = work(*machine.store, *machine.blobs, 4, acknowledge);
      CAPTURE(again.has_value() ? "" : again.error().detail);
      CHECK(again);
    }
    machine.crash_and_restart();
    CHECK(find_loss(*machine.store, *machine.blobs, acknowledged) == "");
  }
  CHECK(refusals > 20);
}

TEST_CASE("a disk that lies about its syncs is caught", "[storage][faults]") {
  Machine machine;
  REQUIRE(machine.start());
  machine.disk->lie_about_sync(true);
  std::uint64_t acknowledged = 0;
  REQUIRE(work(*machine.store, *machine.blobs, 3, [&](std::uint64_t item) { acknowledged = item; }));
  machine.disk->lie_about_sync(false);
  machine.crash_and_restart();
  CHECK(find_loss(*machine.store, *machine.blobs, acknowledged) != "");
}

TEST_CASE("after a failed sync a store only reads until it is opened again", "[storage][faults]") {
  Machine machine;
  REQUIRE(machine.start());
  const WriteBatch first = {Put{"items", bytes("k"), bytes("1")}};
  const WriteBatch second = {Put{"items", bytes("k"), bytes("2")}};
  REQUIRE(machine.store->commit(first, Durability::synced));
  REQUIRE(machine.blobs->put(id_of("kept"), bytes_of("kept")));
  REQUIRE(machine.blobs->append_part(id_of("part"), 0, bytes_of("part")));
  const bool by_commit = GENERATE(true, false);
  if (!by_commit) REQUIRE(machine.store->commit(second, Durability::buffered));
  machine.disk->fail_syncs(true);
  const auto failed = by_commit ? machine.store->commit(second, Durability::synced) : machine.store->sync();
  CHECK(failed.error().code == Errc::storage);
  CHECK(machine.blobs->finish_part(id_of("part")).error().code == Errc::storage);
  CHECK(machine.blobs->part_length(id_of("part")).value() == 0u);
  machine.disk->fail_syncs(false);  // As a kernel does: the error is reported once, then all seems well.
  CHECK(machine.store->commit(first, Durability::synced).error().code == Errc::storage);
  CHECK(machine.store->sync().error().code == Errc::storage);
  CHECK(machine.store->get("items", bytes_of("k"))->has_value());
  const auto refused = machine.blobs->put(id_of("new"), bytes_of("new"));
  CHECK(refused.error().code == Errc::storage);
  CHECK(refused.error().detail.find(machine.folder.path.string()) != std::string::npos);
  CHECK(machine.blobs->read_all(id_of("kept")).value() == bytes("kept"));

  machine.crash_and_restart();
  CHECK(machine.store->get("items", bytes_of("k")).value() == std::optional(bytes("1")));
  CHECK(machine.store->commit(second, Durability::synced));
  CHECK(machine.blobs->list() == std::vector<BlobInfo>{{id_of("kept"), 4}});
  CHECK(machine.blobs->put(id_of("new"), bytes_of("new")));
}

TEST_CASE("a failed sync of the folder takes the blob back, for nobody knows whether its name lasts",
          "[storage][faults]") {
  Machine machine;
  REQUIRE(machine.start());
  machine.disk->fail_after(
      2);  // The write and the sync of the bytes succeed, the sync of the folder does not.
  CHECK(machine.blobs->put(id_of("a"), bytes_of("a")).error().code == Errc::storage);
  CHECK_FALSE(machine.blobs->contains(id_of("a")));
  CHECK(machine.blobs->used_bytes() == 0);
  machine.crash_and_restart();
  CHECK(machine.blobs->list().empty());
}

TEST_CASE("what a full disk cut off an append is not part of the part", "[storage][faults]") {
  Machine machine;
  REQUIRE(machine.start());
  const auto id = id_of("abcdef");
  REQUIRE(machine.blobs->append_part(id, 0, bytes_of("ab")));
  machine.disk->set_space(1);
  CHECK(machine.blobs->append_part(id, 2, bytes_of("cdef")).error().code == Errc::storage_full);
  CHECK(machine.blobs->part_length(id).value() == 2u);
  CHECK(machine.blobs->used_bytes() == 2);
  CHECK(fs::file_size(machine.folder.path / "blobs" / (id.hex() + ".part")) == 2);
  machine.disk->set_space(std::nullopt);
  REQUIRE(machine.blobs->append_part(id, 2, bytes_of("cdef")));
  REQUIRE(machine.blobs->finish_part(id));
  CHECK(hash_blob(*machine.blobs, id)->id() == id);
}

TEST_CASE("a torn part is resumed from where the disk has it", "[storage][faults]") {
  const TemporaryFolder folder;
  const auto id = id_of("abcdef");
  REQUIRE((*open_file_blob_store(folder.path))->append_part(id, 0, bytes_of("abcd")));
  fs::resize_file(folder.path / (id.hex() + ".part"), 3);
  const auto blobs = *open_file_blob_store(folder.path);
  CHECK(blobs->part_length(id).value() == 3u);
  CHECK(blobs->append_part(id, 4, bytes_of("ef")).error().code == Errc::conflict);
  REQUIRE(blobs->append_part(id, 3, bytes_of("def")));
  REQUIRE(blobs->finish_part(id));
  CHECK(hash_blob(*blobs, id)->id() == id);
}

TEST_CASE("files of others in the blob folder stay, and a put that a crash cut short goes",
          "[storage][faults]") {
  const TemporaryFolder folder;
  const std::string hex = id_of("x").hex();
  REQUIRE((*open_file_blob_store(folder.path))->put(id_of("x"), bytes_of("x")));
  const std::vector<std::string> foreign = {"notes.txt", hex + ".bak", hex.substr(1),
                                            hex + "0",   "." + hex,    "DEADBEEF" + hex.substr(8)};
  for (const auto& name : foreign) std::ofstream(folder.path / name) << "of others";
  fs::create_directory(folder.path / id_of("folder").hex());
  std::ofstream(folder.path / (id_of("cut").hex() + ".new")) << "half of";

  const auto blobs = *open_file_blob_store(folder.path);
  CHECK(blobs->list() == std::vector<BlobInfo>{{id_of("x"), 1}});
  CHECK(blobs->list_parts().empty());
  CHECK(blobs->used_bytes() == 1);
  CHECK(sweep(*blobs, {}, UtcTime::max())->blobs == 1);
  for (const auto& name : foreign) CHECK(fs::exists(folder.path / name));
  CHECK_FALSE(fs::exists(folder.path / (id_of("cut").hex() + ".new")));
}

TEST_CASE("stores that are open, or newer than the program, are refused in clear words",
          "[storage][faults]") {
  const TemporaryFolder folder;
  {
    const auto store = open_rocksdb_store(folder.path / "store", {"a"});
    const auto blobs = open_file_blob_store(folder.path / "blobs");
    REQUIRE(store);
    REQUIRE(blobs);
    const auto second = open_rocksdb_store(folder.path / "store", {"a"});
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::conflict);
    CHECK(second.error().detail.find("is in use by another process") != std::string::npos);
    CHECK(open_file_blob_store(folder.path / "blobs").error().code == Errc::conflict);
  }
  std::ofstream(folder.path / "store" / "FORMAT") << "rivulet store 2\n";
  std::ofstream(folder.path / "blobs" / "FORMAT") << "rivulet blobs 7\n";
  const auto newer = open_rocksdb_store(folder.path / "store", {"a"});
  REQUIRE_FALSE(newer);
  CHECK(newer.error().code == Errc::unsupported);
  CHECK(newer.error().detail.find("says format 2, and this program reads formats up to 1") !=
        std::string::npos);
  CHECK(open_file_blob_store(folder.path / "blobs").error().code == Errc::unsupported);
}

TEST_CASE("a store that lost its head is refused, and one with a damaged log goes back to before the damage",
          "[storage][faults]") {
  const TemporaryFolder folder;
  {
    const auto store = *open_rocksdb_store(folder.path, workload_families);
    for (std::uint64_t i = 1; i <= 50; ++i) {
      REQUIRE(store->commit({Put{"items", number_key(i), content_of(i)}}, Durability::buffered));
    }
  }
  SECTION("without CURRENT it is refused instead of begun anew") {
    fs::remove(folder.path / "rocksdb" / "CURRENT");
    const auto opened = open_rocksdb_store(folder.path, workload_families);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == Errc::corrupt);
    CHECK(opened.error().detail.find("CURRENT") != std::string::npos);
  }
  SECTION("behind a damaged record nothing is read, so that a prefix is left") {
    // A power cut leaves pages of the last write missing, in any order, which look like damage to what had
    // been synced: so both open, without all that was written from there on.
    const bool in_the_tail = GENERATE(false, true);
    for (const auto& entry : fs::directory_iterator(folder.path / "rocksdb")) {
      if (entry.path().extension() != ".log") continue;
      std::fstream log(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      log.seekp(static_cast<std::streamoff>(in_the_tail ? entry.file_size() - 16 : entry.file_size() / 2));
      log << "damage";
    }
    const auto store = *open_rocksdb_store(folder.path, workload_families);
    std::uint64_t items = 0;
    REQUIRE(store->scan("items", {}, [&](ByteSpan key, ByteSpan value) {
      CHECK(number_of_key(key) == ++items);
      CHECK(copy_of(value) == content_of(items));
      return true;
    }));
    CHECK(items > (in_the_tail ? 48 : 10));
    CHECK(items < 50);
  }
}

TEST_CASE("stores of format 1 open", "[storage][fixtures]") {
  const TemporaryFolder folder;
  fs::copy("tests/storage/fixtures/format_1", folder.path, fs::copy_options::recursive);
  auto store = open_rocksdb_store(folder.path / "store", workload_families);
  INFO((store ? std::string() : store.error().detail));
  REQUIRE(store);
  const auto blobs = open_file_blob_store(folder.path / "blobs");
  REQUIRE(blobs);
  CHECK(find_loss(**store, **blobs, 2) == "");
  CHECK((*store)->last("items")->value().key == number_key(2));
  CHECK((*blobs)->list().size() == 2);
  std::uint64_t acknowledged = 2;
  CHECK(work(**store, **blobs, 2, [&](std::uint64_t item) { acknowledged = item; }));
  store->reset();
  store = open_rocksdb_store(folder.path / "store", workload_families);
  REQUIRE(store);
  CHECK(find_loss(**store, **blobs, acknowledged) == "");
}
