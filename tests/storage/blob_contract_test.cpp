#include <thread>

#include "storage/file_blob_store.h"
#include "storage/memory_disk.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

namespace {

constexpr auto unlimited = std::numeric_limits<std::uint64_t>::max();

struct Place {
  bool on_disk;
  TemporaryFolder folder;
  MemoryDisk memory;

  std::unique_ptr<BlobStore> open(std::uint64_t bytes_max = unlimited) {
    if (!on_disk) return make_memory_blob_store(memory, bytes_max);
    auto blobs = open_file_blob_store(folder.path / "blobs", {.bytes_max = bytes_max, .open_parts_max = 2});
    INFO((blobs ? std::string() : blobs.error().detail));
    REQUIRE(blobs);
    return std::move(*blobs);
  }
};

Bytes bytes(std::string_view text) { return copy_of(bytes_of(text)); }
ContentId id_of(std::string_view text) { return content_id_of(bytes_of(text)); }

}  // namespace

TEST_CASE("a part grows at its end, is resumed after opening again, and becomes a blob", "[storage][blobs]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  CAPTURE(place.on_disk);
  const auto id = id_of("hello world");
  {
    auto blobs = place.open();
    CHECK(blobs->part_length(id).value() == 0u);
    REQUIRE(blobs->append_part(id, 0, bytes_of("hel")));
    REQUIRE(blobs->append_part(id, 3, bytes_of("lo w")));
    CHECK(blobs->append_part(id, 3, bytes_of("again")).error().code == Errc::conflict);
    CHECK(blobs->append_part(id, 8, bytes_of("a gap")).error().code == Errc::conflict);
  }
  auto blobs = place.open();
  CHECK(blobs->part_length(id).value() == 7u);
  CHECK(blobs->used_bytes() == 7);
  CHECK(blobs->read_part(id, 4, 100).value() == bytes("o w"));
  CHECK(blobs->read_part(id, 7, 1).value() == Bytes());
  CHECK(blobs->read_part(id, 8, 1).error().code == Errc::invalid);
  CHECK_FALSE(blobs->contains(id));
  REQUIRE(blobs->append_part(id, 7, bytes_of("orld")));
  REQUIRE(blobs->finish_part(id));
  CHECK(blobs->part_length(id).value() == 0u);
  CHECK(blobs->list_parts().empty());
  CHECK(blobs->read_all(id).value() == bytes("hello world"));
  CHECK(blobs->read(id, 6, 3).value() == bytes("wor"));
  CHECK(blobs->read(id, 6, 300).value() == bytes("world"));
  CHECK(blobs->read(id, 12, 1).error().code == Errc::invalid);
  CHECK(hash_blob(*blobs, id)->id() == id);
  blobs.reset();
  CHECK(place.open()->list() == std::vector<BlobInfo>{{id, 11}});
}

TEST_CASE("a part can be cut and dropped, and what is absent is not found", "[storage][blobs]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  auto blobs = place.open();
  const auto id = id_of("x");
  CHECK(blobs->finish_part(id).error().code == Errc::not_found);
  CHECK(blobs->truncate_part(id, 0).error().code == Errc::not_found);
  CHECK(blobs->read_part(id, 0, 1).error().code == Errc::not_found);
  CHECK(blobs->read(id, 0, 1).error().code == Errc::not_found);
  CHECK(blobs->size(id).error().code == Errc::not_found);
  CHECK(blobs->append_part(id, 1, bytes_of("a")).error().code == Errc::conflict);
  CHECK(blobs->list_parts().empty());
  CHECK(blobs->erase_part(id));
  CHECK(blobs->erase(id));

  REQUIRE(blobs->append_part(id, 0, bytes_of("abcdef")));
  CHECK(blobs->truncate_part(id, 7).error().code == Errc::invalid);
  REQUIRE(blobs->truncate_part(id, 2));
  CHECK(blobs->used_bytes() == 2);
  REQUIRE(blobs->append_part(id, 2, bytes_of("XY")));
  CHECK(blobs->read_part(id, 0, 9).value() == bytes("abXY"));
  REQUIRE(blobs->erase_part(id));
  CHECK(blobs->part_length(id).value() == 0u);
  CHECK(blobs->used_bytes() == 0);
}

TEST_CASE("empty content is content", "[storage][blobs]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  auto blobs = place.open();
  const auto id = id_of("");
  const bool in_parts = GENERATE(false, true);
  if (in_parts) {
    REQUIRE(blobs->append_part(id, 0, {}));
    REQUIRE(blobs->finish_part(id));
  } else {
    REQUIRE(blobs->put(id, {}));
  }
  CHECK(blobs->size(id).value() == 0u);
  CHECK(blobs->read_all(id).value() == Bytes());
  CHECK(hash_blob(*blobs, id)->id() == id);
}

TEST_CASE("many parts grow side by side, more than files may stay open", "[storage][blobs]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  auto blobs = place.open();
  for (std::uint64_t offset = 0; offset < 20; ++offset) {
    for (int part = 0; part < 5; ++part) {
      const auto piece = std::string(1, static_cast<char>('a' + part));
      REQUIRE(blobs->append_part(id_of(std::string(20, piece[0])), offset, bytes_of(piece)));
    }
  }
  for (int part = 0; part < 5; ++part) {
    const std::string content(20, static_cast<char>('a' + part));
    REQUIRE(blobs->finish_part(id_of(content)));
    CHECK(hash_blob(*blobs, id_of(content))->id() == id_of(content));
  }
}

TEST_CASE("the quota refuses before anything is written, and erasing makes room", "[storage][blobs]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  CAPTURE(place.on_disk);
  auto blobs = place.open(10);
  const auto first = id_of("first");
  const auto second = id_of("second");
  REQUIRE(blobs->put(first, bytes_of("123456")));
  CHECK(blobs->put(second, bytes_of("12345")).error().code == Errc::storage_full);
  REQUIRE(blobs->append_part(second, 0, bytes_of("1234")));
  CHECK(blobs->append_part(second, 4, bytes_of("5")).error().code == Errc::storage_full);
  CHECK(blobs->append_part(id_of("third"), 0, bytes_of("5")).error().code == Errc::storage_full);
  CHECK(blobs->part_length(second).value() == 4u);
  CHECK(blobs->list_parts().size() == 1);
  CHECK(blobs->used_bytes() == 10);
  REQUIRE(blobs->put(first, bytes_of("123456")));  // It is there, and needs no room.
  REQUIRE(blobs->finish_part(second));             // Bytes that were counted are not counted twice.
  CHECK(blobs->used_bytes() == 10);
  REQUIRE(blobs->erase(first));
  CHECK(blobs->used_bytes() == 4);
  REQUIRE(blobs->append_part(id_of("third"), 0, bytes_of("123456")));
  CHECK(blobs->used_bytes() == 10);
}

TEST_CASE("hashing a blob of several chunks gives its list, and shows a changed byte", "[storage][blobs]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  auto blobs = place.open();
  Bytes content(2 * chunk_bytes + 5);
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(i * i >> 8);
  const ChunkList list = chunk_list_of(content);
  REQUIRE(blobs->put(list.id(), content));
  CHECK(hash_blob(*blobs, list.id()).value() == list);
  content[chunk_bytes] ^= std::byte{1};
  REQUIRE(blobs->erase(list.id()));
  REQUIRE(blobs->put(list.id(), content));
  const auto damaged = hash_blob(*blobs, list.id());
  REQUIRE(damaged);
  CHECK(damaged->id() != list.id());
  CHECK(damaged->chunks[0] == list.chunks[0]);
  CHECK(damaged->chunks[1] != list.chunks[1]);
}

TEST_CASE("the sweep removes what nobody refers to and parts that are too old", "[storage][blobs]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  auto blobs = place.open();
  place.memory.set_time(UtcTime(std::chrono::hours(1)));
  REQUIRE(blobs->put(id_of("kept"), bytes_of("kept")));
  REQUIRE(blobs->put(id_of("left"), bytes_of("left over")));
  REQUIRE(blobs->append_part(id_of("part"), 0, bytes_of("pa")));
  const UtcTime changed = blobs->list_parts().at(0).modified;

  const auto young = sweep(*blobs, {id_of("kept"), id_of("absent")}, changed);
  REQUIRE(young);
  CHECK(young->blobs == 1);
  CHECK(young->parts == 0);
  CHECK(young->bytes == 9);
  CHECK(blobs->list() == std::vector<BlobInfo>{{id_of("kept"), 4}});
  const auto old = sweep(*blobs, {id_of("kept")}, changed + std::chrono::milliseconds(1));
  REQUIRE(old);
  CHECK(old->parts == 1);
  CHECK(blobs->used_bytes() == 4);
}

TEST_CASE("threads fill parts of their own at the same time", "[storage][blobs]") {
  Place place{.on_disk = GENERATE(false, true), .folder = {}, .memory = MemoryDisk()};
  auto blobs = place.open();
  std::vector<int> failures(4);  // One a thread: Catch's assertions are for one thread.
  std::vector<std::thread> writers;
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([&, writer] {
      for (int content = 0; content < 5; ++content) {
        const std::string text = std::string(40, static_cast<char>('a' + writer)) + std::to_string(content);
        for (std::size_t offset = 0; offset < text.size(); ++offset) {
          if (!blobs->append_part(id_of(text), offset, bytes_of(text.substr(offset, 1)))) ++failures[writer];
        }
        if (!blobs->finish_part(id_of(text))) ++failures[writer];
      }
    });
  }
  for (auto& writer : writers) writer.join();
  CHECK(failures == std::vector<int>(4));
  CHECK(blobs->used_bytes() == 4 * 5 * 41);
  REQUIRE(blobs->list().size() == 20);
  for (const auto& blob : blobs->list()) CHECK(hash_blob(*blobs, blob.id)->id() == blob.id);
}
