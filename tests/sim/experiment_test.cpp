#include "sim/experiment/experiment.h"

#include "sim/experiment/bundled.h"
#include "sim/experiment/fleet_data.h"
#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::sim;

namespace {

std::string error_of(const std::string& text, const Overrides& overrides = {}) {
  const auto experiment = parse_experiment(text, "a.toml", overrides);
  return experiment ? "" : experiment.error().detail;
}

}  // namespace

TEST_CASE("an experiment's errors name file, line and key", "[sim]") {
  CHECK(error_of("").empty());
  CHECK(error_of("[round]\ncohrt = 3\n").find("a.toml:2: round.cohrt") == 0);
  CHECK(error_of("seed = 1\n[data]\nalpha = \"x\"\n").find("a.toml:3: data.alpha") == 0);
  CHECK(error_of("[data]\nsource = \"idx\"\n").find("data.path") != std::string::npos);
  CHECK(error_of("[data]\nsource = \"idx\"\npath = \"not-there.gz\"\n")
            .find("a.toml:3: data.path names no file") == 0);
  CHECK(error_of("[data]\npartition = \"natural\"\n").find("a.toml:2: data.partition") == 0);
  CHECK(error_of("[model]\narchitecture = \"mcmahan_cnn\"\nhidden = [3]\n").find("a.toml:3: model.hidden") ==
        0);
  CHECK(
      error_of("[model]\narchitecture = \"gru\"\npool = 2\n").find("a.toml:3: model.pool does not belong") ==
      0);
  CHECK(error_of("[input]\nshape = [0]\n").find("a.toml:2: input.shape") == 0);
  CHECK(error_of("[round]\ncohort = 4\ncohort_min = 5\n").find("a.toml:3: round.cohort_min") == 0);
  CHECK(error_of("[round]\ncohort = 4\nmode = \"never\"\n").find("a.toml:3: round.mode") == 0);
  CHECK(error_of("[validation]\ntolerance = 2.0\n").find("a.toml:2: validation.tolerance") == 0);
  CHECK(error_of("[round", {}).find("a.toml:1") == 0);
}

TEST_CASE("an override replaces a key, and its error names it", "[sim]") {
  const auto experiment = parse_experiment("[round]\ncount = 7\n[data]\nalpha = 1.0\n", "a.toml",
                                           {{"round.count", "3"}, {"version.snapshot", "fp32"}});
  REQUIRE(experiment.has_value());
  CHECK(experiment->rounds == 3);
  CHECK(experiment->snapshot == SnapshotForm::fp32);
  CHECK(experiment->data.alpha == 1.0);
  CHECK(error_of("", {{"round.cont", "3"}}).find("round.cont") != std::string::npos);
  CHECK(error_of("", {{"seed", "-1"}}).find("seed") != std::string::npos);
}

TEST_CASE("an experiment prunes by the keys of a model specification", "[sim]") {
  CHECK(parse_experiment("", "a.toml", {})->pruning == PruningPlan{});
  const auto experiment =
      parse_experiment("[pruning]\nsparsity = 0.6\nbegin = 2\n", "a.toml", {{"pruning.rounds", "7"}});
  REQUIRE(experiment.has_value());
  CHECK(experiment->pruning == PruningPlan{0.6, 2, 7});
  CHECK(experiment->snapshot == SnapshotForm::sparse_int8);
  CHECK(error_of("[pruning]\nsparsity = 1.0\n").find("a.toml:2: pruning.sparsity must be below 1") == 0);
}

TEST_CASE("an experiment has the daemon's defaults, but for the gate", "[sim]") {
  const auto experiment = parse_experiment("", "a.toml", {});
  REQUIRE(experiment.has_value());
  coordinator::Config expected;
  expected.validation.mode = coordinator::ValidationMode::none;
  CHECK(experiment->coordinator == expected);
}

TEST_CASE("the bundled experiments can be read", "[sim]") {
  std::vector<std::string> names;
  for (const Bundled& bundled : bundled_experiments()) {
    names.emplace_back(bundled.name);
    CHECK(bundled.text.starts_with("# "));
    const auto experiment = load_experiment(names.back(), {{"data.source", "digits"}});
    if (names.back() == "mnist-shards") continue;  // Its files may not be here.
    CHECK(experiment.has_value());
  }
  CHECK(names == std::vector<std::string>{"digits", "digits-int8", "mnist-shards"});
  const auto unknown = load_experiment("no-such-experiment", {});
  REQUIRE_FALSE(unknown.has_value());
  CHECK(unknown.error().detail.find("digits-int8") != std::string::npos);
}

TEST_CASE("every sample of the digits is in one place alone", "[sim]") {
  const auto experiment = parse_experiment(
      "[data]\npartition = \"dirichlet\"\n[fleet]\nnodes = 7\n[validation]\nmode = \"both\"\n", "a.toml", {});
  REQUIRE(experiment.has_value());
  const auto data = load_fleet_data(*experiment);
  REQUIRE(data.has_value());
  CHECK(data->nodes.size() == 7);
  CHECK(data->test.labels.size() == 359);     // a fifth of 1,797
  CHECK(data->holdout.labels.size() == 179);  // a tenth
  std::size_t on_nodes = 0;
  for (const NodeSamples& node : data->nodes) {
    CHECK(node.inputs.size() == node.labels.size() * 64);
    CHECK(node.holdout_labels.size() <= (node.labels.size() + node.holdout_labels.size()) / 10);
    CHECK_FALSE(node.labels.empty());
    on_nodes += node.labels.size() + node.holdout_labels.size();
    for (const float x : node.inputs) CHECK((x >= 0 && x <= 1));
  }
  CHECK(on_nodes == 1797 - 359 - 179);
  const auto again = load_fleet_data(*experiment);
  REQUIRE(again.has_value());
  CHECK(again->nodes[3].inputs == data->nodes[3].inputs);
}
