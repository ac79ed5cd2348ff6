#include <array>
#include <cmath>
#include <fstream>

#include "cli/prepared_model.h"
#include "models/package/snapshot.h"
#include "tests/catch.h"
#include "tests/cli/programs.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::cli;
using namespace rivulet::tests;

namespace {

const std::string fleet = "00112233445566778899aabbccddeeff";

Outcome prepare(const TemporaryFolder& folder, const std::string& spec, std::vector<std::string> more = {}) {
  tests::write(folder.path / "spec.toml", spec);
  std::vector<std::string> arguments = {
      "prepare", (folder.path / "spec.toml").string(), "--out", folder.path.string(), "--fleet", fleet};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run(program("rivulet-model"), arguments);
}

void check_refused(const Outcome& outcome, const std::string& words) {
  INFO(outcome.err);
  CHECK(outcome.status == 2);
  CHECK(is_one_line(outcome.err, "rivulet-model"));
  CHECK(outcome.err.find(words) != std::string::npos);
}

std::string with(std::string spec, const std::string& from, const std::string& to) {
  const auto at = spec.find(from);
  REQUIRE(at != std::string::npos);
  return spec.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("rivulet-model prepares a release that says what the specification says", "[cli][model]") {
  const TemporaryFolder folder;
  const Outcome outcome =
      prepare(folder, digits_spec("[limits]\nexpires = \"30d\"\n"), {"--seed", "7", "--epoch", "3"});
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK(outcome.out.empty());
  auto model = read_prepared(folder.path);
  REQUIRE(model.has_value());
  const auto spec = load_model_spec(folder.path / "spec.toml");
  REQUIRE(spec.has_value());
  const auto release = check_prepared(*model, *spec, *FleetId::from_hex(fleet), 3);
  REQUIRE(release.has_value());

  // 64 * 32 + 32 + 32 * 10 + 10
  CHECK(model->weights.size() == 2410);
  CHECK(weights_hash_of(model->weights) == release->initial_weights_hash);
  CHECK(release->recipes == std::vector<std::string>{"fp32", "int8"});
  CHECK(release->limits.expires - release->created == std::chrono::days(30));
  double squares = 0.0;
  for (const float w : model->weights) squares += static_cast<double>(w) * w;
  CHECK(std::abs(release->limits.max_distance - 10.0 * (std::sqrt(squares) + 1.0)) < 1e-9);
  // The digits' README: 1,797 samples, 178 zeros, 180 nines; pixels from 0 to 16.
  REQUIRE(model->holdout.has_value());
  CHECK(model->holdout->labels.size() == 1797);
  CHECK(std::count(model->holdout->labels.begin(), model->holdout->labels.end(), 0) == 178);
  CHECK(std::count(model->holdout->labels.begin(), model->holdout->labels.end(), 9) == 180);
  CHECK(model->holdout == model->test);
  CHECK(release->known_inputs.size() == 4 * 64);
  for (const float x : release->known_inputs) CHECK((x >= 0.0F && x <= 16.0F));

  // What is signed is checked: another fleet or epoch, a changed weight, a lost sample, another
  // specification.
  CHECK_FALSE(check_prepared(*model, *spec, FleetId{}, 3));
  CHECK_FALSE(check_prepared(*model, *spec, *FleetId::from_hex(fleet), 4));
  auto changed = *model;
  changed.weights[5] += 1.0F;
  CHECK_FALSE(check_prepared(changed, *spec, *FleetId::from_hex(fleet), 3));
  changed = *model;
  changed.holdout->labels.pop_back();
  CHECK_FALSE(check_prepared(changed, *spec, *FleetId::from_hex(fleet), 3));
  // The specification leaves the distance out, so it is that of the weights.
  changed = *model;
  Release wide = *release;
  wide.limits.max_distance *= 1.0001;
  changed.release = encode(wide);
  const auto judged = check_prepared(changed, *spec, *FleetId::from_hex(fleet), 3);
  REQUIRE_FALSE(judged);
  CHECK(judged.error().detail.find("lets versions go") != std::string::npos);
  auto other = *spec;
  other.classes.back() = "ten";
  CHECK_FALSE(check_prepared(*model, other, *FleetId::from_hex(fleet), 3));

  // The same seed gives the same weights, another one others.
  const auto weights = contents(folder.path / "weights.f32");
  REQUIRE(prepare(folder, digits_spec(), {"--seed", "7"}).status == 0);
  CHECK(contents(folder.path / "weights.f32") == weights);
  REQUIRE(prepare(folder, digits_spec(), {"--seed", "8"}).status == 0);
  CHECK(contents(folder.path / "weights.f32") != weights);
}

TEST_CASE("rivulet-model names what does not fit together", "[cli][model]") {
  const TemporaryFolder folder;
  const std::string spec = digits_spec();
  check_refused(prepare(folder, with(spec, "shape = [64]", "shape = [63]")), "[input] shape");
  check_refused(prepare(folder, with(spec, ", \"9\"]", "]")), "[holdout]");
  check_refused(prepare(folder, with(spec, "label = \"65\"", "label = \"digit\"")), "digit");
  check_refused(prepare(folder, with(spec, "digits.csv.gz", "none.csv.gz")), "none.csv.gz");
  check_refused(prepare(folder, with(spec, "scale = [16.0]", "scale = [1e-38]")), "[input] mean and scale");
  check_refused(run(program("rivulet-model"), {"prepare", "x.toml", "--out", "/tmp", "--fleet", "12"}),
                "--fleet");
  check_refused(run(program("rivulet-model"), {"prepare"}), "see 'rivulet-model --help'");
  check_refused(run(program("rivulet-model"), {}), "see 'rivulet-model --help'");
}

TEST_CASE("other tasks and networks are prepared too", "[cli][model]") {
  const TemporaryFolder folder;
  const Outcome anomaly =
      prepare(folder,
              "name = \"odd\"\n[model]\nhidden = [4]\n[input]\nshape = [6]\nmean = [1, 2, 3, 4, 5, 6]\n"
              "scale = [2.0]\n[task]\nkind = \"anomaly\"\n");
  INFO(anomaly.err);
  REQUIRE(anomaly.status == 0);
  const auto model = read_prepared(folder.path);
  REQUIRE(model.has_value());
  CHECK_FALSE(model->holdout.has_value());
  const auto release = decode_release(model->release);
  REQUIRE(release.has_value());
  for (std::size_t i = 0; i < release->known_inputs.size(); ++i) {
    // Without data: mean ± scale.
    CHECK(std::abs(release->known_inputs[i] - static_cast<float>(i % 6 + 1)) <= 2.0F);
  }
}

TEST_CASE("an anomaly model's file may have a column of labels, which is named", "[cli][model]") {
  const TemporaryFolder folder;
  tests::write(folder.path / "x.csv", "a,b,label\n1,2,0\n3,4,1\n");
  const std::string spec =
      "name = \"odd\"\n[model]\nhidden = [4]\n[input]\nshape = [2]\n[task]\nkind = \"anomaly\"\n"
      "[holdout]\npath = \"x.csv\"\n";
  check_refused(prepare(folder, spec), "3 numbers");  // All columns are inputs.
  const Outcome outcome = prepare(folder, spec + "label = \"label\"\n");
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK(read_prepared(folder.path)->holdout->inputs == std::vector<float>{1, 2, 3, 4});
}

TEST_CASE("a regression brings its holdout and test split with their values", "[cli][model]") {
  const TemporaryFolder folder;
  tests::write(folder.path / "x.csv", "a,b,label\n1,2,0.5\n3,4,-2.25\n5,6,1e3\n");
  const std::string spec =
      "name = \"r\"\n[model]\nhidden = [4]\n[input]\nshape = [2]\n[task]\nkind = \"regression\"\n"
      "loss = \"huber\"\n[holdout]\npath = \"x.csv\"\n";
  const Outcome outcome = prepare(folder, spec);
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  auto model = read_prepared(folder.path);
  REQUIRE(model.has_value());
  REQUIRE(model->holdout.has_value());
  CHECK(model->holdout->inputs == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(model->holdout->targets == std::vector<float>{0.5F, -2.25F, 1000});
  CHECK(model->holdout->labels == std::vector<std::int64_t>{0, 0, 0});
  CHECK_FALSE(model->test.has_value());
  const auto read = load_model_spec(folder.path / "spec.toml");
  const auto release = check_prepared(*model, *read, *FleetId::from_hex(fleet), 0);
  REQUIRE(release.has_value());
  CHECK(release->loss == RegressionLoss::huber);
  auto other = *read;
  other.loss = RegressionLoss::absolute;
  CHECK_FALSE(check_prepared(*model, other, *FleetId::from_hex(fleet), 0));
  model->holdout->targets.pop_back();
  CHECK_FALSE(check_prepared(*model, *read, *FleetId::from_hex(fleet), 0));

  tests::write(folder.path / "x.csv", "a,b,label\n1,2,much\n");
  check_refused(prepare(folder, spec), "[holdout]");
  std::filesystem::remove(folder.path / "x.csv");
  check_refused(prepare(folder, with(spec, "[holdout]", "[test]")), "[test]");
}

TEST_CASE("every built-in network is prepared, tried out and scored against its files", "[cli][model]") {
  struct Network {
    const char* model;
    const char* shape;
    std::size_t parameters;
  };
  // Of 8x8 digits: as images, or as windows of eight channels and eight steps.
  const auto network = GENERATE(values<Network>({
      {"architecture = \"cnn\"\nchannels = [4]\nhidden = []", "[1, 8, 8]", 4 * 10 + 10 * (4 * 16 + 1)},
      {"architecture = \"cnn1d\"\nchannels = [4]\nkernel = 3", "[8, 8]", 4 * (8 * 3 + 1) + 10 * 5},
      {"architecture = \"gru\"\nhidden = [5]", "[8, 8]", 3 * 5 * (8 + 5 + 2) + 10 * 6},
      // The sum over the layers with 8, 16, 32 and 64 channels, 1 channel in and 10 classes out.
      {"architecture = \"resnet18\"\nwidth = 0.125", "[1, 8, 8]", 176'402 - 2 * 8 * 9},
      // Parameters, and a mean and a variance for each of the 3,616 outputs of its convolutions.
      {"architecture = \"mobilenet_v2\"\nwidth = 0.1\nresolution = 32", "[1, 8, 8]", 98'746 + 2 * 3'616},
  }));
  const TemporaryFolder folder;
  const std::string spec = with(with(digits_spec(), "architecture = \"mlp\"\nhidden = [32]", network.model),
                                "shape = [64]", std::string("shape = ") + network.shape);
  const Outcome outcome = prepare(folder, spec);
  INFO(network.model << ": " << outcome.err);
  REQUIRE(outcome.status == 0);
  const auto model = read_prepared(folder.path);
  REQUIRE(model.has_value());
  CHECK(model->weights.size() == network.parameters);
  CHECK(model->holdout->labels.size() == 1797);
  const auto read = load_model_spec(folder.path / "spec.toml");
  REQUIRE(read.has_value());
  CHECK(check_prepared(*model, *read, *FleetId::from_hex(fleet), 0).has_value());
}

TEST_CASE("an autoencoder is prepared for anomalies, and for nothing else", "[cli][model]") {
  const TemporaryFolder folder;
  const std::string spec =
      "name = \"odd\"\n[model]\narchitecture = \"autoencoder\"\nhidden = [4, 2]\n[input]\nshape = [6]\n";
  const Outcome outcome = prepare(folder, spec + "[task]\nkind = \"anomaly\"\n");
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  const auto model = read_prepared(folder.path);
  REQUIRE(model.has_value());
  CHECK(model->weights.size() == 4 * 7 + 2 * 5 + 4 * 3 + 6 * 5);
  check_refused(prepare(folder, spec + "[task]\nclasses = [\"a\", \"b\"]\n"),
                "model.architecture is autoencoder, which rebuilds its 6 inputs");
}

TEST_CASE("a model with wide answers has fewer known ones, and one that no manifest can hold is refused",
          "[cli][model]") {
  const TemporaryFolder folder;
  const auto spec_of = [](int classes, const std::string& more = "") {
    std::string spec =
        "name = \"wide\"\n[model]\nhidden = []\n[input]\nshape = [3]\n[task]\nclasses = [\"0\"";
    for (int i = 1; i < classes; ++i) spec += ", \"" + std::to_string(i) + "\"";
    return spec + "]\n" + more;
  };
  const Outcome outcome = prepare(folder, spec_of(3000));
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  // 88 KiB / (3 lists * 3,000 outputs * 4 bytes) = 2.5
  CHECK(decode_release(read_prepared(folder.path)->release)->known_inputs.size() == 2 * 3);
  check_refused(prepare(folder, spec_of(7510)), "[version] variants");
  CHECK(prepare(folder, spec_of(7510, "[version]\nvariants = [\"fp32\"]\n")).status == 0);
}

TEST_CASE("the programs of the operator are apart: rivulet has no LibTorch", "[cli]") {
  // What the dynamic loader would load, without running it.
  const Outcome listed = run("/usr/bin/ldd", {program("rivulet")});
  REQUIRE(listed.status == 0);
  CHECK(listed.out.find("libc.so") != std::string::npos);
  CHECK(listed.out.find("torch") == std::string::npos);
  CHECK(listed.out.find("rocksdb") == std::string::npos);
  CHECK(run("/usr/bin/ldd", {program("rivulet-model")}).out.find("libtorch") != std::string::npos);
}
