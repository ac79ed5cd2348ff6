#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "models/dataset/dataset.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

namespace {

Result<Dataset> csv(const std::string& text, const LabelRule& rule, const SampleOptions& options) {
  TemporaryFolder folder;
  std::ofstream(folder.path / "a.csv") << text;
  return load_dataset(folder.path / "a.csv", SampleFormat::csv, options, rule);
}

const SampleOptions by_label{"label", "", {}, false};

/// The folder of real data sets, or nothing with a word about it.
std::optional<std::filesystem::path> real_data() {
  const char* set = std::getenv("RIVULET_DATA");
  const std::filesystem::path folder = set != nullptr ? set : "../shared/data";
  if (std::filesystem::is_directory(folder / "mnist")) return folder;
  WARN("skipped: there are no data sets in " + folder.string() + "; RIVULET_DATA names their folder");
  return std::nullopt;
}

std::vector<std::size_t> counts(const Dataset& dataset) {
  std::vector<std::size_t> out(dataset.classes.size());
  for (const std::int64_t label : dataset.labels) ++out.at(static_cast<std::size_t>(label));
  return out;
}

using Counts = std::vector<std::size_t>;

}  // namespace

TEST_CASE("labels become indices into the classes", "[models][dataset]") {
  const LabelRule named{TaskKind::classification, {"off", "on"}};
  const auto data = csv("a,label\n1,on\n2,off\n", named, by_label);
  REQUIRE(data.has_value());
  CHECK(data->shape == std::vector<std::int64_t>{1});
  CHECK(data->inputs == std::vector<float>{1, 2});
  CHECK(data->labels == std::vector<std::int64_t>{1, 0});
  CHECK(data->targets.empty());
  CHECK(data->size() == 2);
  CHECK(data->sample(1)[0] == 2.0F);
  // A spreadsheet writes 3 as 3.0.
  const auto numbers = csv("a,label\n1,3.0\n2,02\n", {TaskKind::classification, {"2", "3"}}, by_label);
  CHECK(numbers->labels == std::vector<std::int64_t>{1, 0});
}

TEST_CASE("classes that nobody named are sorted, by value if they are whole numbers", "[models][dataset]") {
  const auto numbers = csv("a,label\n1,10\n2,9\n3,10\n4,9.0\n", {}, by_label);
  REQUIRE(numbers.has_value());
  CHECK(numbers->classes == std::vector<std::string>{"9", "10"});
  CHECK(numbers->labels == std::vector<std::int64_t>{1, 0, 1, 0});
  const auto words = csv("a,label\n1,up\n2,down\n", {}, by_label);
  CHECK(words->classes == std::vector<std::string>{"down", "up"});
  CHECK(words->labels == std::vector<std::int64_t>{1, 0});
}

TEST_CASE("a regression has targets, and an anomaly model neither", "[models][dataset]") {
  const auto regression = csv("a,label\n1,0.5\n2,-3\n", {TaskKind::regression, {}}, by_label);
  REQUIRE(regression.has_value());
  CHECK(regression->targets == std::vector<float>{0.5F, -3.0F});
  CHECK(regression->labels.empty());
  const auto anomaly = csv("a,label\n1,x\n2,\n", {TaskKind::anomaly, {}}, by_label);
  REQUIRE(anomaly.has_value());
  CHECK(anomaly->labels.empty());
  CHECK(anomaly->targets.empty());
  CHECK(anomaly->size() == 2);
}

TEST_CASE("a file with one bad sample is not used, and the error names the line", "[models][dataset]") {
  const auto problem = [](const std::string& text, const LabelRule& rule) {
    const auto data = csv(text, rule, by_label);
    REQUIRE_FALSE(data.has_value());
    CHECK(data.error().code == Errc::invalid);
    return data.error().detail.substr(data.error().detail.find("a.csv"));
  };
  CHECK(problem("a,label\n1,0\nx,1\n", {}) == "a.csv: line 3, column 1: 'x' is not a number");
  CHECK(problem("a,label\n1,0\n2,\n", {}) == "a.csv: line or sample 3: the label is missing");
  CHECK(problem("a,label\n1,up\n", {TaskKind::classification, {"a", "b"}}) ==
        "a.csv: line or sample 2: 'up' is none of the classes");
  CHECK(problem("a,label\n1,up\n", {TaskKind::regression, {}}) ==
        "a.csv: line or sample 2: the label: 'up' is not a number");
  CHECK(problem("a,label\n", {}) == "a.csv: there is no sample in it");
  CHECK(problem("label\n1\n", {}) == "a.csv: has no input column");
}

TEST_CASE("groups are numbered as they appear, and a selection keeps everything", "[models][dataset]") {
  SampleOptions options = by_label;
  options.group = "who";
  const auto data = csv("a,label,who\n1,0,p9\n2,1,p1\n3,0,p9\n", {}, options);
  REQUIRE(data.has_value());
  CHECK(data->groups == std::vector<std::uint32_t>{0, 1, 0});
  const std::vector<std::size_t> picked = {2, 1};
  const Dataset part = select(*data, picked);
  CHECK(part.inputs == std::vector<float>{3, 2});
  CHECK(part.labels == std::vector<std::int64_t>{0, 1});
  CHECK(part.groups == std::vector<std::uint32_t>{0, 1});
  CHECK(part.classes == data->classes);
  CHECK_FALSE(csv("a,label,who\n1,0,p9\n2,1,\n", {}, options));
}

TEST_CASE("the embedded digits are the published test split", "[models][dataset]") {
  const auto digits = embedded_digits();
  REQUIRE(digits.has_value());
  CHECK(digits->size() == 1797);
  CHECK(digits->shape == std::vector<std::int64_t>{64});
  CHECK(digits->classes == std::vector<std::string>{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
  // Alpaydin and Kaynak 1998: test split of "Optical recognition of handwritten digits".
  CHECK(counts(*digits) == Counts{178, 182, 177, 183, 181, 182, 181, 179, 174, 180});
  CHECK(*std::max_element(digits->inputs.begin(), digits->inputs.end()) == 16.0F);
  CHECK(*std::min_element(digits->inputs.begin(), digits->inputs.end()) == 0.0F);
}

TEST_CASE("MNIST has its published counts and scale", "[models][dataset]") {
  const auto folder = real_data();
  if (!folder) return;
  SampleOptions options;
  options.scale_bytes = true;
  const auto test = load_dataset(*folder / "mnist/t10k-images-idx3-ubyte.gz", SampleFormat::idx, options, {});
  REQUIRE(test.has_value());
  CHECK(test->shape == std::vector<std::int64_t>{28, 28});
  CHECK(counts(*test) == Counts{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009});
  CHECK(*std::max_element(test->inputs.begin(), test->inputs.end()) == 1.0F);
  const auto train =
      load_dataset(*folder / "mnist/train-images-idx3-ubyte.gz", SampleFormat::idx, options, {});
  REQUIRE(train.has_value());
  CHECK(counts(*train) == Counts{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949});
  // The mean of MNIST's training pixels, as published in countless recipes, is 0.1307.
  double sum = 0.0;
  for (const float value : train->inputs) sum += value;
  CHECK(sum / static_cast<double>(train->inputs.size()) == Approx(0.1307).margin(5e-5));
}

TEST_CASE("real CSV and 16-bit IDX are read whole", "[models][dataset]") {
  const auto folder = real_data();
  if (!folder) return;
  const auto elec2 = load_dataset(*folder / "elec2/elec2.csv.gz", SampleFormat::csv, by_label, {});
  REQUIRE(elec2.has_value());
  CHECK(elec2->size() == 45312);
  CHECK(elec2->sample_size() == 9);

  SampleOptions labels;
  labels.label = (*folder / "har_smartphone/labels-idx1-ubyte.gz").string();
  const auto windows =
      load_dataset(*folder / "har_smartphone/windows-idx3-short.gz", SampleFormat::idx, labels, {});
  REQUIRE(windows.has_value());
  CHECK(windows->shape == std::vector<std::int64_t>{6, 128});
  // Train and test counts of its README, added.
  CHECK(counts(*windows) == Counts{1722, 1544, 1407, 1801, 1979, 1958, 70, 33, 107, 85, 139, 84});

  SampleOptions features;
  features.label = "activity";
  features.group = "subject";
  features.ignore = {"window", "split"};
  const auto people =
      load_dataset(*folder / "har_smartphone/features.csv.gz", SampleFormat::csv, features, {});
  REQUIRE(people.has_value());
  CHECK(people->sample_size() == 80);
  CHECK(people->labels == windows->labels);
  CHECK(*std::max_element(people->groups.begin(), people->groups.end()) == 29);
}
