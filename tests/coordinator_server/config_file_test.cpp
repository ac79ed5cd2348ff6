#include "coordinator/server/config_file.h"

#include <sstream>

#include "tests/catch.h"

using namespace rivulet;
using coordinator::parse_config;

TEST_CASE("the configuration that init writes has every default", "[coordinator][config]") {
  const auto parsed =
      parse_config(coordinator::render_config({"127.0.0.1", 7443}, {"127.0.0.1", 7480}), "c.toml");
  INFO((parsed ? "" : parsed.error().detail));
  REQUIRE(parsed.has_value());
  CHECK(parsed->core == coordinator::Config{});
  const coordinator::ServerSettings defaults;
  CHECK(parsed->server.listen == defaults.listen);
  CHECK(parsed->server.admin == defaults.admin);
  CHECK(parsed->server.admin_threads == defaults.admin_threads);
  CHECK(parsed->server.admin_body_bytes_max == defaults.admin_body_bytes_max);
  CHECK(parsed->server.blob_quota_bytes == defaults.blob_quota_bytes);
  CHECK(parsed->server.limits.transfer_memory == defaults.limits.transfer_memory);
  CHECK(parsed->server.limits.content_bytes_max == defaults.limits.content_bytes_max);
  CHECK(parsed->server.limits.heartbeat_interval == defaults.limits.heartbeat_interval);
}

TEST_CASE("the configuration that init writes says what each key means", "[coordinator][config]") {
  std::istringstream text(coordinator::render_config({"127.0.0.1", 7443}, {"127.0.0.1", 7480}));
  int keys = 0;
  for (std::string line; std::getline(text, line);) {
    if (line.empty() || line.starts_with('#') || line.starts_with('[')) continue;
    CAPTURE(line);
    ++keys;
    CHECK(line.find("  # ") != std::string::npos);
  }
  CHECK(keys > 50);
}

TEST_CASE("an empty configuration means the same as the written one", "[coordinator][config]") {
  const auto parsed = parse_config("", "c.toml");
  REQUIRE(parsed.has_value());
  CHECK(parsed->core == coordinator::Config{});
}

TEST_CASE("settings arrive where they belong", "[coordinator][config]") {
  const auto parsed = parse_config(R"(
[coordinator]
listen = "[::1]:1"
public_address = "fleet.example:7443"
[round]
cohort = 7
deadline_s = 61
[training]
optimizer = "adam"
[delta]
codec = "fp32"
[validation]
mode = "central"
[limits]
heartbeat_s = 5
blob_quota_mib = 2048
transfer_memory_mib = 3
)",
                                   "c.toml");
  INFO((parsed ? "" : parsed.error().detail));
  REQUIRE(parsed.has_value());
  CHECK(parsed->server.listen == Endpoint{"::1", 1});
  CHECK(parsed->server.public_address == "fleet.example:7443");
  CHECK(parsed->core.round.cohort == 7);
  CHECK(parsed->core.round.deadline == std::chrono::seconds(61));
  CHECK(parsed->core.training.optimizer == "adam");
  CHECK(parsed->core.delta.codec == Codec::fp32);
  CHECK(parsed->core.validation.mode == coordinator::ValidationMode::central);
  CHECK(parsed->core.limits.heartbeat == std::chrono::seconds(5));
  CHECK(parsed->server.limits.heartbeat_interval == std::chrono::seconds(5));
  CHECK(parsed->server.blob_quota_bytes == std::uint64_t{2} << 30);
  CHECK(parsed->server.limits.transfer_memory == 3U << 20);
}

TEST_CASE("a cohort of one brings its minimum within reach", "[coordinator][config]") {
  const auto parsed = parse_config("[round]\ncohort = 1\n", "c.toml");
  REQUIRE(parsed.has_value());
  CHECK(parsed->core.round.cohort_min == 1);
  CHECK(parsed->core.round.updates_min == 1);
}

TEST_CASE("a wrong configuration is refused with file, line and key", "[coordinator][config]") {
  struct Wrong {
    const char* text;
    const char* where;  ///< How the error begins.
  };
  const auto wrong = GENERATE(values<Wrong>({
      {"[round]\ncohorts = 3\n", "c.toml:2: round.cohorts "},
      {"[rounds]\n", "c.toml:1: rounds "},
      {"x = 1\n", "c.toml:1: x "},
      {"[round]\ncohort = \"ten\"\n", "c.toml:2: round.cohort "},
      {"[round]\ncohort = 0\n", "c.toml:2: round.cohort "},
      {"[round]\ncohort = -1\n", "c.toml:2: round.cohort "},
      {"[round]\nmode = \"fedbuff\"\n", "c.toml:2: round.mode "},
      {"[round]\ncohort = 4\ngoal = 40\n", "c.toml:3: round.goal "},
      {"[round]\ncohort = 4\ncohort_min = 5\n", "c.toml:3: round.cohort_min "},
      {"[round]\nover_selection = 0.5\n", "c.toml:2: round.over_selection "},
      {"[training]\n\nlearning_rate = 0\n", "c.toml:3: training.learning_rate "},
      {"[training]\noptimizer = \"lion\"\n", "c.toml:2: training.optimizer "},
      {"[delta]\ncodec = \"zip\"\n", "c.toml:2: delta.codec "},
      {"[aggregation]\nrule = \"median\"\n", "c.toml:2: aggregation.rule "},
      {"[validation]\ntolerance = 2\n", "c.toml:2: validation.tolerance "},
      {"[limits]\nversions_kept = 1\n", "c.toml:2: limits.versions_kept "},
      {"[limits]\ncontent_max_mib = 100\nblob_quota_mib = 10\n", "c.toml:2: limits.content_max_mib "},
      {"[limits]\nunauthenticated_max = 0\n", "c.toml:2: limits.unauthenticated_max "},
      {"[coordinator]\nlisten = \"nowhere\"\n", "c.toml:2: coordinator.listen "},
      {"[coordinator]\npublic_address = \"a:0\"\n", "c.toml:2: coordinator.public_address "},
      {"[coordinator]\nlisten = \"127.0.0.1:7480\"\nadmin = \"127.0.0.1:7480\"\n",
       "c.toml:3: coordinator.admin "},
  }));
  CAPTURE(wrong.text);
  const auto parsed = parse_config(wrong.text, "c.toml");
  REQUIRE_FALSE(parsed.has_value());
  CHECK(parsed.error().code == Errc::invalid);
  CAPTURE(parsed.error().detail);
  CHECK(parsed.error().detail.starts_with(wrong.where));
}
