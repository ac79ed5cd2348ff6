#include "sim/experiment/run.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/runtime/runtime.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::sim;

namespace {

constexpr const char* small = R"(
[data]
partition = "dirichlet"
alpha = 0.3
[fleet]
nodes = 6
[model]
hidden = [16]
[training]
learning_rate = 0.05
[round]
count = 4
cohort = 3
)";

struct Outcome {
  std::string lines;
  std::vector<nlohmann::json> rounds;
  RunSummary summary;
};

Outcome run(const Overrides& overrides, std::size_t threads = 2, const std::string& text = small) {
  use_one_thread();
  const auto experiment = parse_experiment(text, "a.toml", overrides);
  REQUIRE(experiment.has_value());
  const auto data = load_fleet_data(*experiment);
  REQUIRE(data.has_value());
  const TemporaryFolder folder;
  const auto summary =
      run_experiment(*experiment, *data, {.folder = folder.path, .threads = threads, .on_round = {}});
  INFO((summary ? std::string() : summary.error().detail));
  REQUIRE(summary.has_value());
  Outcome outcome;
  std::ifstream file(folder.path / "rounds.jsonl");
  for (std::string line; std::getline(file, line);) {
    outcome.rounds.push_back(nlohmann::json::parse(line));
    outcome.lines += line + "\n";
  }
  outcome.summary = *summary;
  return outcome;
}

}  // namespace

TEST_CASE("the same seed gives the same bytes, whatever the number of threads", "[sim]") {
  const Outcome one = run({}, 1);
  CHECK(one.rounds.size() == 4);
  CHECK(run({}, 2).lines == one.lines);
  CHECK(run({}, 3).lines == one.lines);
  CHECK(run({{"seed", "2"}}, 2).lines != one.lines);
}

TEST_CASE("pruned versions travel in fewer bytes, and the curve says how many", "[sim]") {
  const Outcome dense = run({});
  CHECK_FALSE(dense.rounds.front().contains("sparsity"));
  const Overrides pruning = {{"pruning.sparsity", "0.9"}, {"pruning.rounds", "2"}};
  const Outcome one = run(pruning, 1);
  CHECK(run(pruning, 2).lines == one.lines);
  REQUIRE(one.rounds.size() == 4);
  const std::vector<double> expected = {0.7875, 0.9, 0.9, 0.9};  // 0.9 (1 - 0.5^3), and all of it
  for (std::size_t k = 0; k < 4; ++k)
    CHECK(one.rounds[k].at("sparsity") == Approx(expected[k]).epsilon(1e-12));
  // 64 * 16 + 16 * 10 weights, 26 scales of channels and 26 biases.
  CHECK(dense.summary.snapshot_bytes == 1184 + 26 * 2 + 26 * 4);
  CHECK(one.rounds[3].at("snapshot_bytes") == one.summary.snapshot_bytes);
  CHECK(one.summary.snapshot_bytes < dense.summary.snapshot_bytes / 2);
  CHECK(one.summary.download_bytes < dense.summary.download_bytes);
}

TEST_CASE("evaluations by the nodes and stragglers leave the bytes alone too", "[sim]") {
  const Overrides gated = {{"validation.mode", "both"},
                           {"validation.tolerance", "1.0"},
                           {"validation.holdout_min", "10"},
                           {"round.over_selection", "2.0"},
                           {"fleet.spread", "20"}};
  const Outcome one = run(gated, 1);
  CHECK(one.summary.rounds == 4);
  for (const auto& round : one.rounds) {
    CHECK(round.at("state") == "published");
    CHECK(round.at("invited") == 6);
  }
  CHECK(run(gated, 3).lines == one.lines);
}

TEST_CASE("a fleet trains every built-in network that classifies", "[sim]") {
  struct Network {
    std::string model;
    std::string shape;
    double rate;
  };
  // The 8x8 digits as images, or as windows of eight channels and eight steps.
  const auto network = GENERATE(values<Network>({
      {"architecture = \"cnn\"\nchannels = [8, 16]\nhidden = [32]", "[1, 8, 8]", 0.05},
      {"architecture = \"cnn1d\"\nchannels = [32, 32]\nkernel = 3\npool = 1", "[8, 8]", 0.1},
      {"architecture = \"gru\"\nhidden = [24]", "[8, 8]", 0.2},
      {"architecture = \"resnet18\"\nwidth = 0.0625", "[1, 8, 8]", 0.02},
  }));
  CAPTURE(network.model);
  const std::string text = "[data]\npartition = \"iid\"\n[fleet]\nnodes = 4\n[model]\n" + network.model +
                           "\n[input]\nshape = " + network.shape +
                           "\n[round]\ncount = 8\ncohort = 4\n[training]\nepochs = 2\nlearning_rate = " +
                           std::to_string(network.rate) + "\n";
  const Outcome outcome = run({}, 2, text);
  REQUIRE(outcome.rounds.size() == 8);
  for (const auto& round : outcome.rounds) CHECK(round.at("state") == "published");
  // Ten classes: chance is 0.1.
  CHECK(outcome.summary.best_accuracy > 0.6);
}

TEST_CASE("a fleet trains a network with batch norm, whose statistics it averages", "[sim]") {
  // Digits as images of 32x32. Averages of networks that went far apart would have other statistics than
  // their own averages, so the steps are small.
  const std::string text =
      "[data]\npartition = \"iid\"\n[fleet]\nnodes = 2\n[model]\narchitecture = \"mobilenet_v2\"\n"
      "width = 0.1\nresolution = 32\n[input]\nshape = [1, 8, 8]\n[round]\ncount = 6\ncohort = 2\n"
      "[training]\nepochs = 1\noptimizer = \"adam\"\nlearning_rate = 0.002\n";
  const Outcome outcome = run({}, 2, text);
  REQUIRE(outcome.rounds.size() == 6);
  for (const auto& round : outcome.rounds) CHECK(round.at("state") == "published");
  // Ten classes: chance is 0.1, and running statistics that stayed at 0 and 1 would leave it there.
  CHECK(outcome.summary.best_accuracy > 0.3);
}

TEST_CASE("an experiment whose shape does not fit its samples says so", "[sim]") {
  const auto refusal = [](const std::string& text) {
    const auto experiment = parse_experiment(text, "a.toml", {});
    REQUIRE(experiment.has_value());
    const auto data = load_fleet_data(*experiment);
    if (!data) return data.error().detail;
    const TemporaryFolder folder;
    const auto summary =
        run_experiment(*experiment, *data, {.folder = folder.path, .threads = 1, .on_round = {}});
    REQUIRE_FALSE(summary.has_value());
    return summary.error().detail;
  };
  CHECK(refusal("[input]\nshape = [8, 9]\n").find("input.shape has 72 numbers") == 0);
  CHECK(refusal("[model]\narchitecture = \"cnn\"\n")
            .find("input.shape is [64], but the input of cnn is [channels, height, width]") !=
        std::string::npos);
  CHECK(refusal("[model]\narchitecture = \"autoencoder\"\n").find("task.kind") != std::string::npos);
}

TEST_CASE("the lines add up to the summary", "[sim]") {
  const Outcome outcome = run({});
  std::uint64_t up = 0, down = 0;
  double best = 0, time = 0;
  for (const auto& round : outcome.rounds) {
    up += round.at("upload_bytes").get<std::uint64_t>();
    down += round.at("download_bytes").get<std::uint64_t>();
    best = std::max(best, round.at("accuracy").get<double>());
    CHECK(round.at("virtual_seconds").get<double>() > time);
    time = round.at("virtual_seconds").get<double>();
    CHECK(round.at("participants") == 3);
  }
  CHECK(up == outcome.summary.upload_bytes);
  CHECK(down == outcome.summary.download_bytes);
  CHECK(best == outcome.summary.best_accuracy);
  CHECK(time == outcome.summary.virtual_seconds);
  // 64 * 16 + 16 * 10 weights in int8 with a scale for each of 26 channels, and 26 biases; the six nodes
  // fetch w_0 in fp32, five versions, and the signed release.
  const std::uint64_t snapshot = 64 * 16 + 16 * 10 + 26 * 4 + 26 * 4, first = (64 * 16 + 16 * 10 + 26) * 4;
  CHECK(down > 6 * (first + 5 * snapshot));
  CHECK(down < 6 * (first + 5 * snapshot + 4096));
}

TEST_CASE("a round's size follows the coordinator's rules", "[sim]") {
  // Six nodes cannot fill a cohort of ten: it is the smallest cohort that decides.
  const Overrides wide = {{"round.cohort", "10"}, {"round.count", "2"}};
  Overrides strict = wide;
  strict.emplace_back("round.cohort_min", "8");
  const Outcome loose = run(wide);
  REQUIRE(loose.rounds.size() == 2);
  CHECK(loose.rounds[0].at("participants") == 6);
  CHECK(loose.rounds[0].at("state") == "published");
  const Outcome none = run(strict);
  REQUIRE(none.rounds.size() == 2);
  CHECK(none.rounds[0].at("participants") == 0);
  CHECK(none.rounds[0].at("state") == "failed");
  CHECK(none.rounds[1].at("version") == 1);
}

TEST_CASE("candidates that are refused stop the schedule", "[sim]") {
  // A huge step makes nonsense of the model, which the coordinator's own holdout shows.
  const Outcome outcome = run({{"validation.mode", "central"},
                               {"validation.tolerance", "0.0"},
                               {"round.count", "40"},
                               {"training.learning_rate", "0.05"},
                               {"training.epochs", "6"},
                               {"aggregation.server_learning_rate", "60"},
                               {"delta.norm_bound", "0"}});
  CHECK(outcome.summary.rounds < 40);
  CHECK(outcome.summary.stopped.find("refused") != std::string::npos);
  CHECK(outcome.rounds.back().at("state") == "refused");
}

TEST_CASE("int8 versions learn as fp32 ones do, for less than a third of the bytes", "[sim]") {
  // The bundled experiment at a smaller size, with longer steps to get somewhere; its full size is in
  // program_test.py.
  const auto digits = [](const char* snapshot) {
    use_one_thread();
    const auto experiment = load_experiment(
        "digits-int8",
        {{"version.snapshot", snapshot}, {"round.count", "30"}, {"training.learning_rate", "0.02"}});
    REQUIRE(experiment.has_value());
    const auto data = load_fleet_data(*experiment);
    REQUIRE(data.has_value());
    const TemporaryFolder folder;
    const auto summary =
        run_experiment(*experiment, *data, {.folder = folder.path, .threads = 2, .on_round = {}});
    REQUIRE(summary.has_value());
    return *summary;
  };
  const RunSummary fp32 = digits("fp32"), int8 = digits("int8");
  const double ratio = static_cast<double>(int8.download_bytes) / static_cast<double>(fp32.download_bytes);
  CAPTURE(fp32.final_accuracy, int8.final_accuracy, ratio);
  // Of 31 versions each; w_0 in fp32 and the release weigh more than they do over 100 rounds.
  CHECK(ratio < 0.33);
  CHECK(std::abs(fp32.final_accuracy - int8.final_accuracy) <= 0.02);
  CHECK(fp32.final_accuracy > 0.5);  // It learns: a tenth is chance.
}
