#include <atomic>
#include <thread>

#include "storage/file_blob_store.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
namespace fs = std::filesystem;

namespace {

ContentId id_of(std::string_view text) { return content_id_of(bytes_of(text)); }
Bytes bytes(std::string_view text) { return copy_of(bytes_of(text)); }

/// Our open files in `folder`, by what the kernel calls them; a removed one ends in " (deleted)".
std::vector<std::string> open_files(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;  // The listing's own descriptor is closed by now.
    const fs::path target = fs::read_symlink(entry.path(), ignored);
    if (target.parent_path() == folder && target.filename() != "LOCK") names.push_back(target.filename());
  }
  return names;
}

struct Place {
  TemporaryFolder folder;
  std::unique_ptr<BlobStore> blobs = *open_file_blob_store(folder.path, {.open_blobs_max = 3});

  [[nodiscard]] std::vector<std::string> open() const { return open_files(fs::canonical(folder.path)); }
};

}  // namespace

TEST_CASE("blobs that were read stay open, as many as are allowed, and all of them can be read",
          "[storage][blobs]") {
  Place place;
  std::vector<std::string> texts;
  for (int blob = 0; blob < 10; ++blob) {
    texts.push_back("content " + std::to_string(blob));
    REQUIRE(place.blobs->put(id_of(texts.back()), bytes_of(texts.back())));
  }
  CHECK(place.open().empty());
  for (int round = 0; round < 3; ++round) {
    for (const std::string& text : texts)
      CHECK(place.blobs->read(id_of(text), 8, 9).value() == bytes(text.substr(8)));
    CHECK(place.open().size() == 3);
  }
  // The last three are those that were used last, the one just read again among them.
  CHECK(place.blobs->read(id_of(texts[7]), 0, 7).value() == bytes("content"));
  CHECK(place.blobs->read(id_of(texts[0]), 0, 7).value() == bytes("content"));
  auto open = place.open();
  std::vector<std::string> expected = {id_of(texts[0]).hex(), id_of(texts[7]).hex(), id_of(texts[9]).hex()};
  std::ranges::sort(open);
  std::ranges::sort(expected);
  CHECK(open == expected);
}

TEST_CASE("a removed blob is closed and not served, and what takes its name is served instead",
          "[storage][blobs]") {
  Place place;
  const ContentId id = id_of("a name");
  REQUIRE(place.blobs->put(id, bytes_of("first")));
  REQUIRE(place.blobs->read_all(id).value() == bytes("first"));
  REQUIRE(place.open() == std::vector<std::string>{id.hex()});

  REQUIRE(place.blobs->erase(id));
  CHECK(place.open().empty());
  CHECK(place.blobs->read(id, 0, 5).error().code == Errc::not_found);

  REQUIRE(place.blobs->put(id, bytes_of("other")));  // As long as the first.
  CHECK(place.blobs->read_all(id).value() == bytes("other"));

  // Content that is replaced without being erased: damage that is repaired.
  REQUIRE(place.blobs->put(id, bytes_of("longer than it was")));
  CHECK(place.blobs->read_all(id).value() == bytes("longer than it was"));
  REQUIRE(place.blobs->append_part(id, 0, bytes_of("in parts")));
  CHECK(place.blobs->read_all(id).value() == bytes("longer than it was"));
  REQUIRE(place.blobs->finish_part(id));
  CHECK(place.blobs->read_all(id).value() == bytes("in parts"));
  CHECK(place.blobs->used_bytes() == 8);
  CHECK(place.open() == std::vector<std::string>{id.hex()});
}

TEST_CASE("threads that read while a blob is removed and put back get it whole, or not at all",
          "[storage][blobs]") {
  Place place;
  const std::string first(100'000, 'a'), second(100'000, 'b');
  const ContentId id = id_of(first);
  REQUIRE(place.blobs->put(id, bytes_of(first)));
  std::atomic<bool> stop = false;
  std::atomic<int> mixed = 0, failed = 0, read = 0;
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 3; ++reader) {
    readers.emplace_back([&] {
      while (!stop) {
        const auto content = place.blobs->read(id, 0, first.size());
        if (!content) {
          if (content.error().code != Errc::not_found) ++failed;
          continue;
        }
        ++read;
        if (*content != bytes(first) && *content != bytes(second)) ++mixed;
      }
    });
  }
  int refused = 0;
  for (int round = 0; round < 50; ++round) {
    const std::string& next = round % 2 == 0 ? second : first;
    if (!place.blobs->erase(id) || !place.blobs->put(id, bytes_of(next))) ++refused;
    if (place.blobs->read_all(id).value() != bytes(next)) ++mixed;
  }
  while (read < 10) std::this_thread::yield();
  stop = true;
  for (auto& reader : readers) reader.join();
  CHECK(refused == 0);
  CHECK(mixed == 0);
  CHECK(failed == 0);
  CHECK(place.blobs->read_all(id).value() == bytes(first));
  CHECK(place.open().size() == 1);
}
