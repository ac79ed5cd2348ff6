#include "node/daemon/ingest.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "storage/memory_disk.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

namespace rivulet::node {
namespace {

constexpr UtcTime noon{std::chrono::milliseconds(1'700'000'000'000)};

struct Rig {
  MemoryDisk disk;
  std::unique_ptr<Store> store = make_memory_store(disk, {sample_families.begin(), sample_families.end()});
  std::unique_ptr<SampleStore> samples;
  SampleSink sink = [this](std::span<const NewSample> given) { return samples->add(given, noon); };

  Rig() {
    auto opened = SampleStore::open(*store, {});
    REQUIRE(opened);
    samples = std::move(*opened);
  }
};

TEST_CASE("the digits are ingested with the counts that their description states", "[node][ingest]") {
  Rig rig;
  IngestReport report;
  const IngestOptions options{.format = {}, .label = "65"};
  REQUIRE(ingest_file("data/digits/digits.csv.gz", options, rig.sink, report));
  CHECK(report.stored == 1797);
  CHECK(report.duplicate == 0);
  CHECK(report.refused == 0);
  std::map<std::string, int> labels;
  for (const Split split : {Split::training, Split::holdout}) {
    REQUIRE(rig.samples->visit(split, [&](const SampleView& view) {
      CHECK(view.inputs.size() == 64);
      ++labels[std::string(*view.label)];
      return true;
    }));
  }
  const std::map<std::string, int> stated = {{"0", 178}, {"1", 182}, {"2", 177}, {"3", 183}, {"4", 181},
                                             {"5", 182}, {"6", 181}, {"7", 179}, {"8", 174}, {"9", 180}};
  CHECK(labels == stated);

  IngestReport again;
  REQUIRE(ingest_file("data/digits/digits.csv.gz", options, rig.sink, again));
  CHECK(again.stored == 0);
  CHECK(again.duplicate == 1797);
  CHECK(rig.samples->counts().total() == 1797);
}

TEST_CASE("rows that are corrupted are refused with file, line and reason, and the others stored",
          "[node][ingest]") {
  const TemporaryFolder folder;
  const auto file = folder.path / "readings.csv";
  std::ofstream(file) << "a,b,label\n1,2,x\n1,oops,x\n3,4\n5,nan,y\n6,7,y\n1,2,x\n8,9,\n";
  Rig rig;
  IngestReport report;
  REQUIRE(ingest_file(file, {.format = SampleFormat::csv, .label = "label"}, rig.sink, report));
  CHECK(report.stored == 3);
  CHECK(report.duplicate == 1);
  CHECK(report.refused == 3);
  REQUIRE(report.reasons.size() == 3);
  CHECK(report.reasons[0].starts_with(file.string() + ": line 3"));
  CHECK(report.reasons[1].find("line 4") != std::string::npos);
  CHECK(report.reasons[2].find("line 5") != std::string::npos);
  CHECK(rig.samples->counts().unlabelled == 1);

  const auto json = nlohmann::json::parse(to_json(report));
  CHECK(json["stored"] == 3);
  CHECK(json["refused"] == 3);
  CHECK(json["reasons"].size() == 3);
  CHECK(to_text(report).find("stored 3\nduplicate 1\nrefused 3\n") == 0);
}

TEST_CASE("a file that is not there, or a label that is no column, is an error and stores nothing",
          "[node][ingest]") {
  const TemporaryFolder folder;
  Rig rig;
  IngestReport report;
  const auto missing = ingest_file(folder.path / "none.csv", {.format = {}, .label = {}}, rig.sink, report);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == Errc::invalid);
  CHECK(missing.error().detail == (folder.path / "none.csv").string() + ": there is no such file");
  const auto no_column =
      ingest_file("data/digits/digits.csv.gz", {.format = {}, .label = "colour"}, rig.sink, report);
  REQUIRE_FALSE(no_column);
  CHECK(no_column.error().code == Errc::invalid);
  const auto no_format = ingest_file("data/digits/README.md", {.format = {}, .label = {}}, rig.sink, report);
  REQUIRE_FALSE(no_format);
  CHECK(rig.samples->counts().total() == 0);
}

}  // namespace
}  // namespace rivulet::node
