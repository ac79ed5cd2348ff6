#include "coordinator/server/datasets.h"

#include <fstream>

#include "protocol/sha256.h"
#include "storage/file.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using coordinator::Datasets;
using coordinator::ScoringData;
using coordinator::Split;

namespace {

const ScoringData samples{{1.5F, -2.0F, 0.0F, 4.0F, 5.0F, 6.0F}, {2, 0}};

ReleaseId release_of(unsigned char number) {
  ReleaseId id;
  id.bytes[0] = std::byte{number};
  return id;
}

}  // namespace

TEST_CASE("a split is found again by another process, and no other is", "[coordinator][datasets]") {
  const TemporaryFolder folder;
  REQUIRE(Datasets(folder.path / "d").store(release_of(1), Split::holdout, samples).has_value());
  Datasets datasets(folder.path / "d");
  const auto found = datasets.find(release_of(1), Split::holdout);
  REQUIRE(found.has_value());
  REQUIRE(*found != nullptr);
  CHECK((*found)->inputs == samples.inputs);
  CHECK((*found)->labels == samples.labels);
  CHECK(datasets.find(release_of(1), Split::test).value() == nullptr);
  CHECK(datasets.find(release_of(2), Split::holdout).value() == nullptr);
}

TEST_CASE("the samples of a regression keep their values, in a file that says so",
          "[coordinator][datasets]") {
  const TemporaryFolder folder;
  const ScoringData values{samples.inputs, {0, 0}, {0.5F, -7.0F}};
  REQUIRE(Datasets(folder.path).store(release_of(1), Split::holdout, values).has_value());
  const Bytes file = read_file(folder.path / (release_of(1).hex() + ".holdout"), 4096).value();
  // Magic, two counts, six inputs, two targets, hash.
  CHECK(file.size() == 16 + 2 * 8 + 6 * 4 + 2 * 4 + 32);
  CHECK(text_of(ByteSpan(file).first(15)) == "RIVULET.DATA.2\n");
  Datasets datasets(folder.path);
  const auto found = datasets.find(release_of(1), Split::holdout);
  REQUIRE(found.has_value());
  REQUIRE(*found != nullptr);
  CHECK((*found)->inputs == values.inputs);
  CHECK((*found)->labels == values.labels);
  CHECK((*found)->targets == values.targets);
  CHECK(Datasets::hash_of(values) != Datasets::hash_of({samples.inputs, {0, 0}}));
}

TEST_CASE("samples that take the place of others are those that are found", "[coordinator][datasets]") {
  const TemporaryFolder folder;
  Datasets datasets(folder.path);
  REQUIRE(datasets.store(release_of(1), Split::holdout, samples).has_value());
  REQUIRE(datasets.store(release_of(1), Split::test, samples).has_value());
  REQUIRE(datasets.find(release_of(1), Split::holdout).value()->labels == samples.labels);
  // An import that failed is made again, with other samples.
  const ScoringData others{{7.0F, 8.0F}, {1}};
  REQUIRE(datasets.store(release_of(1), Split::holdout, others).has_value());
  CHECK(datasets.find(release_of(1), Split::holdout).value()->labels == others.labels);
  CHECK(datasets.find(release_of(1), Split::test).value()->labels == samples.labels);
}

TEST_CASE("a file that was changed at any byte is refused", "[coordinator][datasets]") {
  const TemporaryFolder folder;
  REQUIRE(Datasets(folder.path).store(release_of(1), Split::test, samples).has_value());
  const auto file = folder.path / (release_of(1).hex() + ".test");
  const Bytes whole = read_file(file, 4096).value();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    Bytes damaged = whole;
    damaged[at] ^= std::byte{1};
    REQUIRE(write_file_durably(file, damaged).has_value());
    const auto found = Datasets(folder.path).find(release_of(1), Split::test);
    CAPTURE(at);
    REQUIRE_FALSE(found.has_value());
    CHECK(found.error().code == Errc::corrupt);
  }
}

TEST_CASE("lengths that do not fit the file are refused, whatever the hash says", "[coordinator][datasets]") {
  const TemporaryFolder folder;
  REQUIRE(Datasets(folder.path).store(release_of(1), Split::test, samples).has_value());
  const auto file = folder.path / (release_of(1).hex() + ".test");
  const Bytes whole = read_file(file, 4096).value();
  const auto count = GENERATE(0ULL, 1ULL, 3ULL, 1ULL << 61, ~0ULL);
  const auto field = GENERATE(16U, 24U);  // Samples, inputs of a sample.
  Bytes damaged(whole.begin(), whole.end() - 32);
  std::memcpy(damaged.data() + field, &count, sizeof count);
  if (field == 24U && count == 3) return;  // That is what it has.
  const Digest digest = sha256(damaged);
  damaged.insert(damaged.end(), digest.bytes.begin(), digest.bytes.end());
  REQUIRE(write_file_durably(file, damaged).has_value());
  CAPTURE(count, field);
  CHECK_FALSE(Datasets(folder.path).find(release_of(1), Split::test).has_value());
}

TEST_CASE("a sweep takes the data of releases that are not there", "[coordinator][datasets]") {
  const TemporaryFolder folder;
  Datasets datasets(folder.path);
  REQUIRE(datasets.store(release_of(1), Split::test, samples).has_value());
  REQUIRE(datasets.store(release_of(2), Split::test, samples).has_value());
  datasets.sweep({release_of(2)});
  CHECK(datasets.find(release_of(1), Split::test).value() == nullptr);
  CHECK(datasets.find(release_of(2), Split::test).value() != nullptr);
}
