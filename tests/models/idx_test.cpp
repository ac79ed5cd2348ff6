#include <fstream>

#include "models/dataset/idx.h"
#include "tests/catch.h"
#include "tests/models/gzip.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

namespace {

Bytes idx(int type, std::initializer_list<std::uint32_t> dimensions, std::initializer_list<int> body) {
  Bytes bytes = {std::byte{0}, std::byte{0}, static_cast<std::byte>(type),
                 static_cast<std::byte>(dimensions.size())};
  for (const std::uint32_t dimension : dimensions) {
    for (const int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<std::byte>(dimension >> shift));
  }
  for (const int byte : body) bytes.push_back(static_cast<std::byte>(byte));
  return bytes;
}

struct Outcome {
  std::vector<RawSample> samples;
  std::vector<std::int64_t> shape;
  std::optional<Error> error;
};

Outcome read(const Bytes& images, const Bytes* labels = nullptr, const SampleOptions& options = {}) {
  auto reader = make_idx_reader(make_memory_source(images), "images",
                                labels ? make_memory_source(*labels) : nullptr, "labels", options);
  Outcome outcome;
  if (!reader) {
    outcome.error = reader.error();
    return outcome;
  }
  outcome.shape = (*reader)->shape();
  while (true) {
    auto entry = (*reader)->next();
    if (!entry) {
      outcome.error = entry.error();
      return outcome;
    }
    if (!*entry) return outcome;
    outcome.samples.push_back(std::get<RawSample>(**entry));
  }
}

Errc code(const Outcome& outcome) {
  REQUIRE(outcome.error.has_value());
  return outcome.error->code;
}

}  // namespace

TEST_CASE("bytes are read raw, or as fractions of 255", "[models][idx]") {
  const Bytes images = idx(0x08, {2, 1, 3}, {0, 51, 255, 102, 1, 2});
  const Bytes labels = idx(0x08, {2}, {7, 0});
  const Outcome raw = read(images, &labels);
  REQUIRE_FALSE(raw.error);
  CHECK(raw.shape == std::vector<std::int64_t>{1, 3});
  CHECK(raw.samples == std::vector<RawSample>{{0, {0, 51, 255}, "7", {}}, {1, {102, 1, 2}, "0", {}}});
  SampleOptions scaled;
  scaled.scale_bytes = true;
  CHECK(read(images, &labels, scaled).samples[0].inputs == std::vector<float>{0.0F, 0.2F, 1.0F});
  CHECK(read(gzip(images), nullptr).samples[1] == RawSample{1, {102, 1, 2}, {}, {}});
}

TEST_CASE("signed 16-bit numbers are big-endian and never scaled", "[models][idx]") {
  SampleOptions scaled;
  scaled.scale_bytes = true;
  const Outcome outcome =
      read(idx(0x0b, {1, 4}, {0x00, 0x01, 0xff, 0xff, 0x80, 0x00, 0x7f, 0xff}), nullptr, scaled);
  REQUIRE_FALSE(outcome.error);
  CHECK(outcome.samples.at(0).inputs == std::vector<float>{1, -1, -32768, 32767});
}

TEST_CASE("a file of one dimension has samples of one number", "[models][idx]") {
  const Outcome outcome = read(idx(0x08, {3}, {4, 5, 6}));
  CHECK(outcome.shape == std::vector<std::int64_t>{1});
  CHECK(outcome.samples.size() == 3);
}

TEST_CASE("what is no IDX, or other IDX, is refused", "[models][idx]") {
  CHECK(code(read({})) == Errc::corrupt);
  CHECK(code(read(copy_of(bytes_of("label,a\n")))) == Errc::corrupt);
  CHECK(code(read(idx(0x08, {}, {}))) == Errc::corrupt);
  CHECK(code(read(idx(0x08, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1}))) == Errc::corrupt);
  CHECK(code(read(idx(0x0d, {1, 1}, {0, 0, 0, 0}))) == Errc::unsupported);
  CHECK(code(read(idx(0x08, {1, 0}, {}))) == Errc::corrupt);
}

TEST_CASE("a file that ends early or goes on is refused", "[models][idx]") {
  const Bytes good = idx(0x08, {3, 2}, {1, 2, 3, 4, 5, 6});
  for (std::size_t size = 0; size < good.size(); ++size) {
    CAPTURE(size);
    const Outcome outcome = read(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)));
    CHECK(code(outcome) == Errc::corrupt);
  }
  const Outcome longer = read(idx(0x08, {3, 2}, {1, 2, 3, 4, 5, 6, 7}));
  CHECK(longer.samples.size() == 3);
  CHECK(code(longer) == Errc::corrupt);
}

TEST_CASE("claimed dimensions cost no memory", "[models][idx]") {
  // 2^32 - 1 samples are claimed and two are there; a sample of 2^48 numbers is not even tried.
  const Outcome many = read(idx(0x08, {0xffffffff, 2}, {1, 2, 3, 4}));
  CHECK(many.samples.size() == 2);
  CHECK(code(many) == Errc::corrupt);
  CHECK(code(read(idx(0x08, {1, 0x10000, 0x10000, 0x10000}, {1}))) == Errc::corrupt);
  CHECK(code(read(idx(0x08, {1, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {1}))) == Errc::corrupt);
}

TEST_CASE("labels must be one byte for each sample", "[models][idx]") {
  const Bytes images = idx(0x08, {2, 1}, {1, 2});
  const Bytes few = idx(0x08, {1}, {1});
  CHECK(code(read(images, &few)) == Errc::invalid);
  const Bytes wide = idx(0x08, {2, 2}, {1, 2, 3, 4});
  CHECK(code(read(images, &wide)) == Errc::corrupt);
  const Bytes shorts = idx(0x0b, {2}, {0, 1, 0, 2});
  CHECK(code(read(images, &shorts)) == Errc::corrupt);
  const Bytes cut = idx(0x08, {2}, {1});
  CHECK(code(read(images, &cut)) == Errc::corrupt);
  const Bytes longer = idx(0x08, {2}, {1, 2, 3});
  CHECK(code(read(images, &longer)) == Errc::corrupt);
}

TEST_CASE("labels are found beside the images by their usual name, packed or not", "[models][idx]") {
  TemporaryFolder folder;
  const auto images = folder.path / "train-images-idx3-ubyte.gz";
  CHECK_FALSE(idx_labels_beside(images));
  std::ofstream(folder.path / "train-labels-idx1-ubyte.gz").close();
  CHECK(idx_labels_beside(images) == folder.path / "train-labels-idx1-ubyte.gz");
  std::ofstream(folder.path / "train-labels-idx1-ubyte").close();
  CHECK(idx_labels_beside(folder.path / "train-images-idx3-ubyte") ==
        folder.path / "train-labels-idx1-ubyte");
  CHECK_FALSE(idx_labels_beside(folder.path / "windows-idx3-short.gz"));
}

TEST_CASE("the format follows from the file's name, or is asked for", "[models][samples]") {
  CHECK(format_of("/a/b.csv") == SampleFormat::csv);
  CHECK(format_of("b.csv.gz") == SampleFormat::csv);
  CHECK(format_of("train-images-idx3-ubyte.gz") == SampleFormat::idx);
  CHECK(format_of("a.idx") == SampleFormat::idx);
  CHECK(format_of("-").error().code == Errc::invalid);
  CHECK(format_of("sidx.txt").error().code == Errc::invalid);
  CHECK(parse_format("idx") == SampleFormat::idx);
  CHECK_FALSE(parse_format("xml"));
}

TEST_CASE("a file that is absent or a folder is an error that names it", "[models][samples]") {
  TemporaryFolder folder;
  const auto absent = open_samples(folder.path / "none.csv", SampleFormat::csv, {});
  REQUIRE_FALSE(absent.has_value());
  CHECK(absent.error().code == Errc::not_found);
  CHECK(absent.error().detail.find("none.csv") != std::string::npos);
  CHECK(open_samples(folder.path, SampleFormat::csv, {}).error().code == Errc::storage);
}
