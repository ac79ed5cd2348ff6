#include "storage/memory_disk.h"

#include <set>

#include "tests/catch.h"
#include "tests/storage/workload.h"

using namespace rivulet;

namespace {

std::string fingerprint(const Store& store, const BlobStore& blobs) {
  std::string text;
  for (const auto& family : workload_families) {
    REQUIRE(store.scan(family, {}, [&](ByteSpan key, ByteSpan value) {
      text += to_hex(key) + "=" + to_hex(value) + "\n";
      return true;
    }));
  }
  for (const auto& blob : blobs.list()) text += blob.id.hex() + ":" + std::to_string(blob.length) + "\n";
  for (const auto& part : blobs.list_parts())
    text += part.id.hex() + "?" + std::to_string(part.length) + "\n";
  return text;
}

/// Works, crashes and opens again, over and over. @return the first loss, or how the disk looks at the end.
struct Outcome {
  std::string loss;
  std::string left;
};
Outcome live_through_crashes(std::uint64_t seed, bool lies) {
  Rng rng(seed);
  MemoryDisk disk;
  disk.lie_about_sync(lies);
  std::uint64_t acknowledged = 0;
  Outcome outcome;
  for (int life = 0; life < 8 && outcome.loss.empty(); ++life) {
    auto store = make_memory_store(disk, workload_families);
    auto blobs = make_memory_blob_store(disk);
    // What an unacknowledged item has left counts from now on, as it would for a restarted program.
    if (const auto last = store->last("items"); *last) {
      acknowledged = std::max(acknowledged, *number_of_key((**last).key));
    }
    const auto fault = uniform_below(rng, 4);
    const auto done =
        work(*store, *blobs, uniform_below(rng, 5), [&](std::uint64_t item) { acknowledged = item; });
    CHECK(done);
    if (fault == 0) disk.fail_next_commit(Errc::storage);
    if (fault == 1) disk.fail_next_blob_write(Errc::storage);
    if (fault == 2) disk.fail_next_commit(Errc::storage_full);
    const auto failed = work(*store, *blobs, 1, [&](std::uint64_t item) { acknowledged = item; });
    if (fault > 2) CHECK(failed);
    disk.crash(rng);
    outcome.loss =
        find_loss(*make_memory_store(disk, workload_families), *make_memory_blob_store(disk), acknowledged);
  }
  outcome.left = fingerprint(*make_memory_store(disk, workload_families), *make_memory_blob_store(disk));
  return outcome;
}

Bytes bytes(std::string_view text) { return copy_of(bytes_of(text)); }

}  // namespace

TEST_CASE("no crash of the simulated disk loses what was acknowledged", "[storage][memory]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 300));
  CAPTURE(seed);
  CHECK(live_through_crashes(seed, false).loss.empty());
}

TEST_CASE("a disk that reports syncs it did not do is caught", "[storage][memory]") {
  int caught = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed)
    caught += live_through_crashes(seed, true).loss.empty() ? 0 : 1;
  CHECK(caught == 50);
}

TEST_CASE("the same seed leaves the same bytes", "[storage][memory]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 10));
  CHECK(live_through_crashes(seed, false).left == live_through_crashes(seed, false).left);
  CHECK(live_through_crashes(seed, false).left != live_through_crashes(seed + 10, false).left);
}

TEST_CASE("a crash keeps a prefix of the buffered batches, and every length of it occurs",
          "[storage][memory]") {
  std::set<std::uint64_t> kept;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Rng rng(seed);
    MemoryDisk disk;
    auto store = make_memory_store(disk, {"a"});
    REQUIRE(store->commit({Put{"a", bytes("0"), bytes("first")}}, Durability::synced));
    for (const char* key : {"1", "2", "3"}) {
      // Each batch replaces, adds and erases, all of which must be taken back together.
      REQUIRE(store->commit({Put{"a", bytes("0"), bytes(key)}, Put{"a", bytes(key), {}},
                             Erase{"a", bytes("x")}, Put{"a", bytes("x"), bytes(key)}},
                            Durability::buffered));
    }
    disk.crash(rng);
    CHECK(store->get("a", {}).error().code == Errc::storage);
    store = make_memory_store(disk, {"a"});
    std::uint64_t batches = 0;
    for (const char* key : {"1", "2", "3"}) {
      if (!store->get("a", bytes_of(key))->has_value()) break;
      ++batches;
    }
    kept.insert(batches);
    const auto expected = batches == 0 ? bytes("first") : bytes(std::to_string(batches));
    CHECK(store->get("a", bytes_of("0")).value() == std::optional(expected));
    CHECK(store->get("a", bytes_of("x"))->has_value() == (batches > 0));
  }
  CHECK(kept == std::set<std::uint64_t>{0, 1, 2, 3});
}

TEST_CASE("a crash cuts a part at any byte and leaves finished blobs whole", "[storage][memory]") {
  std::set<std::uint64_t> lengths;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    MemoryDisk disk;
    auto blobs = make_memory_blob_store(disk);
    REQUIRE(blobs->append_part(content_id_of(bytes_of("part")), 0, bytes_of("pa")));
    REQUIRE(blobs->append_part(content_id_of(bytes_of("part")), 2, bytes_of("rt")));
    REQUIRE(blobs->put(content_id_of(bytes_of("blob")), bytes_of("blob")));
    disk.crash(rng);
    blobs = make_memory_blob_store(disk);
    const auto length = *blobs->part_length(content_id_of(bytes_of("part")));
    lengths.insert(length);
    if (length > 0)
      CHECK(blobs->read_part(content_id_of(bytes_of("part")), 0, 9).value() ==
            bytes(std::string("part", length)));
    CHECK(blobs->read_all(content_id_of(bytes_of("blob"))).value() == bytes("blob"));
    CHECK(blobs->used_bytes() == 4 + length);
  }
  CHECK(lengths == std::set<std::uint64_t>{0, 1, 2, 3, 4});
}

TEST_CASE("an erased blob may be back after a crash, until the next blob is stored", "[storage][memory]") {
  const bool stores_another = GENERATE(false, true);
  int back = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Rng rng(seed);
    MemoryDisk disk;
    auto blobs = make_memory_blob_store(disk);
    REQUIRE(blobs->put(content_id_of(bytes_of("a")), bytes_of("a")));
    REQUIRE(blobs->erase(content_id_of(bytes_of("a"))));
    CHECK(blobs->used_bytes() == 0);
    if (stores_another) REQUIRE(blobs->put(content_id_of(bytes_of("b")), bytes_of("b")));
    disk.crash(rng);
    back += make_memory_blob_store(disk)->contains(content_id_of(bytes_of("a"))) ? 1 : 0;
  }
  CHECK((stores_another ? back == 0 : back > 5 && back < 35));
}

TEST_CASE("after a failed write only opening again makes the simulated store writable", "[storage][memory]") {
  MemoryDisk disk;
  auto store = make_memory_store(disk, {"a"});
  const WriteBatch batch = {Put{"a", bytes("k"), bytes("v")}};
  disk.fail_next_commit(Errc::storage_full);
  CHECK(store->commit(batch, Durability::synced).error().code == Errc::storage_full);
  CHECK(store->get("a", bytes_of("k")).value() == std::optional<Bytes>());
  CHECK(store->commit(batch, Durability::synced));
  disk.fail_next_commit(Errc::storage);
  CHECK(store->commit({Erase{"a", bytes("k")}}, Durability::synced).error().code == Errc::storage);
  CHECK(store->commit(batch, Durability::buffered).error().code == Errc::storage);
  CHECK(store->sync().error().code == Errc::storage);
  CHECK(store->get("a", bytes_of("k")).value() == std::optional(bytes("v")));
  store = make_memory_store(disk, {"a"});
  CHECK(store->get("a", bytes_of("k")).value() == std::optional<Bytes>());  // The log had the failed batch.
  CHECK(store->commit(batch, Durability::synced));

  auto blobs = make_memory_blob_store(disk);
  const auto id = content_id_of(bytes_of("v"));
  disk.fail_next_blob_write(Errc::storage_full);
  CHECK(blobs->append_part(id, 0, bytes_of("v")).error().code == Errc::storage_full);
  REQUIRE(blobs->append_part(id, 0, bytes_of("v")));
  disk.fail_next_blob_write(Errc::storage);
  CHECK(blobs->finish_part(id).error().code == Errc::storage);
  CHECK(blobs->part_length(id).value() == 0u);
  CHECK(blobs->put(id, bytes_of("v")).error().code == Errc::storage);
  blobs = make_memory_blob_store(disk);
  CHECK(blobs->put(id, bytes_of("v")));
}

TEST_CASE("the disks of a fleet share equal blobs, and only equal ones", "[storage][memory]") {
  ContentPool pool;
  const auto id = content_id_of(bytes_of("model"));
  const auto first = pool.share(id, bytes("model"));
  CHECK(pool.share(id, bytes("model")) == first);
  CHECK(*pool.share(id, bytes("mOdel")) == bytes("mOdel"));
  CHECK(*pool.share(id, bytes("model")) == bytes("model"));
}
