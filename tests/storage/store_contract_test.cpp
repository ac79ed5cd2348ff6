#include <algorithm>
#include <thread>

#include "storage/memory_disk.h"
#include "storage/rocksdb_store.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

namespace {

/// A place for a store that can be opened again and again.
struct Place {
  bool on_disk;
  TemporaryFolder folder;
  MemoryDisk memory;

  std::unique_ptr<Store> open(std::vector<std::string> families = {"a", "b"}) {
    if (!on_disk) return make_memory_store(memory, std::move(families));
    auto store = open_rocksdb_store(folder.path / "store", std::move(families));
    INFO((store ? std::string() : store.error().detail));
    REQUIRE(store);
    return std::move(*store);
  }
};

Bytes bytes(std::string_view text) { return copy_of(bytes_of(text)); }

std::string keys_of(const Store& store, std::string_view family, std::string_view prefix = "",
                    std::string_view from = "") {
  std::string keys;
  const auto scanned = store.scan(
      family, bytes_of(prefix),
      [&](ByteSpan key, ByteSpan) {
        keys += std::string(text_of(key)) + " ";
        return true;
      },
      bytes_of(from));
  REQUIRE(scanned);
  return keys;
}

}  // namespace

TEST_CASE("keys of numbers sort as the numbers do, and give them back", "[storage][write]") {
  CHECK(to_hex(number_key(0x0102030405060708)) == "0102030405060708");
  const auto low = GENERATE(as<std::uint64_t>(), 0, 1, 255, 256, 65535, 0x7fffffffffffffff);
  CHECK(number_key(low) < number_key(low + 1));
  CHECK(number_of_key(number_key(low)) == low);
  Bytes key = bytes("x");
  append_number(key, low);
  CHECK(number_of_key(key, 1) == low);
  CHECK_FALSE(number_of_key(key, 2));
  CHECK_FALSE(number_of_key({}, 1));
}

TEST_CASE("a store gives back what was committed, and opening it again changes nothing", "[storage][store]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  CAPTURE(place.on_disk);
  const auto durability = GENERATE(Durability::synced, Durability::buffered);
  {
    auto store = place.open();
    REQUIRE(store->commit({Put{"a", bytes("k"), bytes("old")}, Put{"a", bytes("gone"), {}}}, durability));
    REQUIRE(store->commit({Put{"a", bytes("k"), bytes("new")}, Put{"b", bytes("k"), {}},
                           Erase{"a", bytes("gone")}, Erase{"a", bytes("never")}},
                          durability));
    REQUIRE(store->sync());
    CHECK(store->get("a", bytes_of("k")).value() == std::optional(bytes("new")));
  }
  auto store = place.open();
  CHECK(store->get("a", bytes_of("k")).value() == std::optional(bytes("new")));
  CHECK(store->get("b", bytes_of("k")).value() == std::optional(Bytes()));
  CHECK(store->get("a", bytes_of("gone")).value() == std::optional<Bytes>());
}

TEST_CASE("writes of one batch take effect in order", "[storage][store]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  auto store = place.open();
  REQUIRE(store->commit(
      {Put{"a", bytes("x"), bytes("1")}, Erase{"a", bytes("x")}, Put{"a", bytes("y"), bytes("1")},
       Erase{"a", bytes("y")}, Put{"a", bytes("y"), bytes("2")}},
      Durability::synced));
  CHECK(keys_of(*store, "a") == "y ");
  CHECK(store->get("a", bytes_of("y")).value() == std::optional(bytes("2")));
  CHECK(store->commit({}, Durability::synced));
}

TEST_CASE(
    "a scan goes through a prefix in the order of unsigned bytes, from anywhere, until it is told to stop",
    "[storage][store]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  CAPTURE(place.on_disk);
  auto store = place.open();
  WriteBatch batch;
  for (const char* key : {"b2", "a", "b1", "c", "b", "b\x7f", "b\x80"})
    batch.push_back(Put{"a", bytes(key), bytes("v")});
  batch.push_back(Put{"b", bytes("b0"), {}});
  REQUIRE(store->commit(batch, Durability::buffered));
  CHECK(keys_of(*store, "a") == "a b b1 b2 b\x7f b\x80 c ");
  CHECK(keys_of(*store, "a", "b") == "b b1 b2 b\x7f b\x80 ");
  CHECK(keys_of(*store, "a", "b", "b2") == "b2 b\x7f b\x80 ");
  CHECK(keys_of(*store, "a", "b", "a") == "b b1 b2 b\x7f b\x80 ");
  CHECK(keys_of(*store, "a", "b", "c").empty());
  CHECK(keys_of(*store, "a", "d").empty());

  int seen = 0;
  REQUIRE(store->scan("a", {}, [&](ByteSpan key, ByteSpan) {
    CHECK(store->get("a", key).value() == std::optional(bytes("v")));  // A visitor may call the store.
    return ++seen < 3;
  }));
  CHECK(seen == 3);
}

TEST_CASE("the last entry of a prefix is found, also when the prefix ends with 0xff", "[storage][store]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  CAPTURE(place.on_disk);
  auto store = place.open();
  CHECK(store->last("a").value() == std::optional<Entry>());
  REQUIRE(store->commit(
      {Put{"a", bytes("a1"), bytes("1")}, Put{"a", bytes("a2"), bytes("2")}, Put{"a", bytes("b"), {}},
       Put{"a", bytes("\xff\xff"), bytes("f")}, Put{"a", bytes("\xff\xff\x01"), bytes("g")}},
      Durability::buffered));
  CHECK(store->last("a", bytes_of("a")).value() == std::optional(Entry{bytes("a2"), bytes("2")}));
  CHECK(store->last("a", bytes_of("b")).value() == std::optional(Entry{bytes("b"), {}}));
  CHECK(store->last("a", bytes_of("0")).value() == std::optional<Entry>());
  CHECK(store->last("a", bytes_of("\xff\xff")).value() ==
        std::optional(Entry{bytes("\xff\xff\x01"), bytes("g")}));
  CHECK(store->last("a").value() == std::optional(Entry{bytes("\xff\xff\x01"), bytes("g")}));
}

TEST_CASE("an unknown family is refused, and nothing of its batch is written", "[storage][store]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  auto store = place.open();
  const auto refused = store->commit({Put{"a", bytes("k"), bytes("v")}, Put{"zebra", bytes("k"), bytes("v")}},
                                     Durability::synced);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::invalid);
  CHECK(refused.error().detail.find("zebra") != std::string::npos);
  CHECK(keys_of(*store, "a").empty());
  CHECK(store->get("zebra", {}).error().code == Errc::invalid);
  CHECK(store->scan("zebra", {}, [](ByteSpan, ByteSpan) { return true; }).error().code == Errc::invalid);
  CHECK(store->last("zebra").error().code == Errc::invalid);
  CHECK(store->commit({Put{"a", bytes("k"), bytes("v")}}, Durability::synced));
}

TEST_CASE("a family may be added by a later program, and one that it does not know is kept",
          "[storage][store]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  std::ignore = place.open({"a"})->commit({Put{"a", bytes("k"), bytes("1")}}, Durability::synced);
  {
    auto store = place.open({"b"});
    REQUIRE(store->commit({Put{"b", bytes("k"), bytes("2")}}, Durability::synced));
    CHECK(store->get("a", bytes_of("k")).error().code == Errc::invalid);
  }
  auto store = place.open({"a", "b"});
  CHECK(store->get("a", bytes_of("k")).value() == std::optional(bytes("1")));
  CHECK(store->get("b", bytes_of("k")).value() == std::optional(bytes("2")));
}

TEST_CASE("reads from other threads see whole batches while one thread commits", "[storage][store]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  auto store = place.open();
  REQUIRE(store->commit({Put{"a", bytes("0"), number_key(0)}}, Durability::buffered));
  std::uint64_t going_back = 0;  // Catch's assertions are for one thread.
  std::thread reader([&] {
    for (std::uint64_t seen = 0; seen < 200;) {
      const auto value = store->get("a", bytes_of("0"));
      const std::uint64_t now = *number_of_key(**value);
      if (now < seen || !store->get("b", number_key(now))->has_value() == (now > 0)) ++going_back;
      seen = now;
    }
  });
  for (std::uint64_t i = 1; i <= 200; ++i) {
    CHECK(store->commit({Put{"b", number_key(i), {}}, Put{"a", bytes("0"), number_key(i)}},
                        Durability::buffered));
  }
  reader.join();
  CHECK(going_back == 0);
}
