#include "coordinator/core/config.h"

#include <functional>

#include "tests/catch.h"

namespace rivulet::coordinator {

TEST_CASE("the defaults make sense together", "[coordinator][config]") {
  REQUIRE(check(Config{}).has_value());
}

TEST_CASE("a contradiction is refused and names its key", "[coordinator][config]") {
  struct Row {
    const char* key;
    std::function<void(Config&)> change;
  };
  const std::vector<Row> rows{
      {"cohort ", [](Config& c) { c.round.cohort = 0; }},
      {"over_selection", [](Config& c) { c.round.over_selection = 0.9; }},
      {"over_selection", [](Config& c) { c.round.over_selection = NAN; }},
      {"goal", [](Config& c) { c.round.goal = 14; }},
      {"cohort_min", [](Config& c) { c.round.cohort_min = 11; }},
      {"updates_min must be between 1 and cohort", [](Config& c) { c.round.updates_min = 11; }},
      {"updates_min must be between 1 and goal",
       [](Config& c) {
         c.round.goal = 5;
         c.round.updates_min = 6;
       }},
      {"updates_min", [](Config& c) { c.round.updates_min = 3; }},
      {"sample_count_max", [](Config& c) { c.round.sample_count_max = 0; }},
      {"refusals_max", [](Config& c) { c.round.refusals_max = 0; }},
      {"deadline_s", [](Config& c) { c.round.deadline = std::chrono::seconds(0); }},
      {"selection_deadline_s", [](Config& c) { c.round.selection_deadline = std::chrono::hours(24 * 400); }},
      {"failure_pause_s", [](Config& c) { c.round.failure_pause = std::chrono::seconds(-1); }},
      {"epochs", [](Config& c) { c.training.epochs = 0; }},
      {"batch_size", [](Config& c) { c.training.batch_size = 0; }},
      {"between 1 and 4096", [](Config& c) { c.training.batch_size = 4097; }},
      {"learning_rate", [](Config& c) { c.training.learning_rate = 0; }},
      {"momentum", [](Config& c) { c.training.momentum = 1.5; }},
      {"[training] optimizer", [](Config& c) { c.training.optimizer = "rmsprop"; }},
      {"norm_bound", [](Config& c) { c.delta.norm_bound = -1; }},
      {"rule", [](Config& c) { c.aggregation.rule = "median"; }},
      {"[aggregation] optimizer", [](Config& c) { c.aggregation.optimizer = "fedadam"; }},
      {"server_learning_rate", [](Config& c) { c.aggregation.server_learning_rate = 0; }},
      {"evaluators_min", [](Config& c) { c.validation.evaluators_min = 11; }},
      {"] tolerance", [](Config& c) { c.validation.tolerance = 1.1; }},
      {"variant_tolerance", [](Config& c) { c.validation.variant_tolerance = -0.1; }},
      {"holdout_min", [](Config& c) { c.validation.holdout_min = 0; }},
      {"versions_kept", [](Config& c) { c.limits.versions_kept = 1; }},
      {"verdict_rounds", [](Config& c) { c.limits.verdict_rounds = 0; }},
      {"rounds_listed", [](Config& c) { c.limits.rounds_listed = 0; }},
      {"messages_burst", [](Config& c) { c.limits.messages_burst = 49; }},
      {"messages_per_second", [](Config& c) { c.limits.messages_per_second = 0; }},
  };
  for (const Row& row : rows) {
    Config config;
    row.change(config);
    const Status status = check(config);
    CAPTURE(row.key);
    REQUIRE_FALSE(status.has_value());
    REQUIRE(status.error().code == Errc::invalid);
    REQUIRE(status.error().detail.find(row.key) != std::string::npos);
  }
}

TEST_CASE("validation modes are read by their names", "[coordinator][config]") {
  for (const auto mode :
       {ValidationMode::federated, ValidationMode::central, ValidationMode::both, ValidationMode::none}) {
    REQUIRE(parse_validation_mode(name(mode)) == mode);
  }
  REQUIRE_FALSE(parse_validation_mode("all").has_value());
}

}  // namespace rivulet::coordinator
