// The list of contents of an archive, against the offsets of APPNOTE.TXT 6.3.10.
#include "models/runtime/torchscript/zip_directory.h"

#include "models/package/npz.h"
#include "tests/catch.h"
#include "tests/models_runtime/python_networks.h"

using namespace rivulet;
using namespace rivulet::tests;

namespace {

/// Parts "a.npy" and "bc.npy", with a header of 128 bytes and 4 and 8 of data.
Bytes two_parts() {
  const TemporaryFolder folder;
  const std::vector<float> one{1}, two{1, 2};
  REQUIRE(write_npz(folder.path / "x.npz", {{"a", {1}, one}, {"bc", {2}, two}}));
  return read_all(folder.path / "x.npz");
}

constexpr std::size_t end_bytes = 22;

std::size_t directory_of(const Bytes& file) {
  return load_le<std::uint32_t>(file, file.size() - end_bytes + 16);
}

template <typename T>
Bytes with(Bytes file, std::size_t at, T value) {
  Bytes number;
  append_le(number, value);
  std::copy(number.begin(), number.end(), file.begin() + static_cast<std::ptrdiff_t>(at));
  return file;
}

bool is_corrupt(const Bytes& file) {
  const auto read = torchscript::read_zip_directory(file);
  return !read && read.error().code == Errc::corrupt;
}

/// The archive with the 64-bit form of its end before the end, as PyTorch writes it.
Bytes with_end64(const Bytes& file, std::uint64_t entries, std::uint64_t size, std::uint64_t begin) {
  Bytes out(file.begin(), file.end() - end_bytes);
  const std::uint64_t place = out.size();
  append_le(out, std::uint32_t{0x06064b50});
  append_le(out, std::uint64_t{44});
  append_le(out, std::uint16_t{0x031e});
  append_le(out, std::uint16_t{45});
  append_le(out, std::uint32_t{0});
  append_le(out, std::uint32_t{0});
  for (const std::uint64_t value : {entries, entries, size, begin}) append_le(out, value);
  append_le(out, std::uint32_t{0x07064b50});
  append_le(out, std::uint32_t{0});
  append_le(out, place);
  append_le(out, std::uint32_t{1});
  out.insert(out.end(), file.end() - end_bytes, file.end());
  return out;
}

}  // namespace

TEST_CASE("an archive's directory is read with its names and sizes", "[runtime][user]") {
  const Bytes file = two_parts();
  const auto entries = torchscript::read_zip_directory(file).value();
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].name == "a.npy");
  CHECK(entries[0].bytes == 128 + 4);
  CHECK(entries[1].name == "bc.npy");
  CHECK(entries[1].bytes == 128 + 8);
  for (std::size_t cut = 0; cut < file.size(); ++cut)
    REQUIRE(is_corrupt(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(cut))));
}

TEST_CASE("an archive that readers could see in two ways is refused", "[runtime][user]") {
  const Bytes file = two_parts();
  const std::size_t end = file.size() - end_bytes;
  const std::size_t entry = directory_of(file);
  Bytes commented = with(file, end + 20, std::uint16_t{end_bytes});  // Another end within a comment.
  commented.insert(commented.end(), file.end() - end_bytes, file.end());
  CHECK(is_corrupt(commented));
  CHECK(is_corrupt(with(file, end + 4, std::uint16_t{1})));              // disk
  CHECK(is_corrupt(with(file, end + 8, std::uint16_t{1})));              // entries on it
  CHECK(is_corrupt(with(file, end + 10, std::uint16_t{3})));             // entries
  CHECK(is_corrupt(with(file, end + 12, std::uint32_t{50})));            // size
  CHECK(is_corrupt(with(file, end + 16, std::uint32_t{0})));             // begin
  CHECK(is_corrupt(with(file, entry + 8, std::uint16_t{1})));            // encrypted
  CHECK(is_corrupt(with(file, entry + 20, std::uint32_t{0xffffffff})));  // packed
  CHECK(is_corrupt(with(file, entry + 24, std::uint32_t{0xffffffff})));  // unpacked
  CHECK(is_corrupt(with(file, entry + 28, std::uint16_t{6})));           // length of the name
  CHECK(is_corrupt(with(file, entry + 28, std::uint16_t{0xffff})));
  CHECK(is_corrupt(with(file, entry + 42, std::uint32_t{1})));  // where it lies
  CHECK(is_corrupt(with(file, entry + 42, std::uint32_t{0xfffffff0})));
  CHECK(is_corrupt(with(file, entry + 46, std::uint8_t{'A'})));  // its name
  CHECK(is_corrupt(with(file, 30, std::uint8_t{'A'})));          // its name, where it lies
  CHECK(is_corrupt(with(with(file, 30, std::uint8_t{0}), entry + 46, std::uint8_t{0})));

  const std::uint64_t size = end - entry;
  CHECK(torchscript::read_zip_directory(with_end64(file, 2, size, entry))->size() == 2);
  CHECK(is_corrupt(with_end64(file, 1, size, entry)));
  CHECK(is_corrupt(with_end64(file, 2, size - 1, entry)));
  CHECK(is_corrupt(with_end64(file, 2, size, 0)));
  const Bytes both = with_end64(file, 2, size, entry);
  CHECK(is_corrupt(with(both, end + 56 + 8, std::uint64_t{0})));  // where its 64-bit end lies
  CHECK(is_corrupt(with(both, end + 4, std::uint64_t{45})));      // how long that is
}
