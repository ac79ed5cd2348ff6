#include "node/daemon/config_file.h"

#include <sstream>

#include "tests/catch.h"

namespace rivulet::node {
namespace {

const std::string required = "coordinator = \"example.org:7443\"\nfleet = \"" + std::string(32, 'a') +
                             "\"\nroot_key = \"" + std::string(64, 'b') + "\"\n";

std::string error_of(const std::string& text) {
  const auto config = parse_node_config(text, "node.toml");
  REQUIRE_FALSE(config);
  CHECK(config.error().code == Errc::invalid);
  return config.error().detail;
}

TEST_CASE("a node.toml with its three required keys has the documented defaults", "[node][config]") {
  const auto config = parse_node_config(required, "node.toml");
  REQUIRE(config);
  CHECK(config->coordinator == Endpoint{"example.org", 7443});
  CHECK(config->fleet.hex() == std::string(32, 'a'));
  CHECK(config->root.hex() == std::string(64, 'b'));
  CHECK(config->api == Endpoint{"127.0.0.1", 0});
  CHECK(config->buffer_bytes_max == 134217728);
  CHECK(config->holdout_fraction == 0.2);
  CHECK(config->variant == "auto");
  CHECK(config->memory_max == 0);
  CHECK(config->latency_max_us == 0);
  CHECK(config->speed == 1);
  CHECK(config->training_time_max == std::chrono::minutes(30));
}

TEST_CASE("the node.toml that a join writes says what each key means", "[node][config]") {
  std::istringstream text(to_toml(*parse_node_config(required, "node.toml")));
  int keys = 0;
  for (std::string line; std::getline(text, line);) {
    if (line.empty() || line.starts_with('#') || line.starts_with('[')) continue;
    CAPTURE(line);
    ++keys;
    CHECK(line.find("  # ") != std::string::npos);
  }
  CHECK(keys == 17);
}

TEST_CASE("every key of node.toml is read, and what is written reads as the same", "[node][config]") {
  const auto config = parse_node_config(required + R"(
[api]
listen = "localhost:8080"
threads = 3
payload_bytes_max = 4096
busy_poll_us = 50
[buffer]
bytes_max = 65536
age_max = "2d"
holdout_fraction = 0.5
[model]
bytes_max = 2097152
weights_bytes_max = 4096
variant = "fp32"
memory_max = 1000000
latency_max_us = 1500.5
speed = 0.25
[training]
time_max = "90s"
)",
                                        "node.toml");
  REQUIRE(config);
  CHECK(config->api == Endpoint{"localhost", 8080});
  CHECK(config->api_threads == 3);
  CHECK(config->payload_bytes_max == 4096);
  CHECK(config->busy_poll_max == std::chrono::microseconds(50));
  CHECK(config->buffer_bytes_max == 65536);
  CHECK(config->buffer_age_max == std::chrono::hours(48));
  CHECK(config->holdout_fraction == 0.5);
  CHECK(config->models_bytes_max == 2097152);
  CHECK(config->weights_bytes_max == 4096);
  CHECK(config->variant == "fp32");
  CHECK(config->memory_max == 1000000);
  CHECK(config->latency_max_us == 1500.5);
  CHECK(config->speed == 0.25);
  CHECK(config->training_time_max == std::chrono::seconds(90));
  const auto again = parse_node_config(to_toml(*config), "again");
  REQUIRE(again);
  CHECK(*again == *config);
}

TEST_CASE("what is wrong in node.toml is named with its file, key and line", "[node][config]") {
  const auto wrong = GENERATE(table<std::string, std::string>({
      {"[api]\nlisten = \"0.0.0.0:80\"\n", "node.toml:5: api.listen"},
      {"[api]\n\nthreads = 0\n", "node.toml:6: api.threads"},
      {"[api]\nbusy_poll_us = 20000\n", "node.toml:5: api.busy_poll_us"},
      {"[buffer]\nbytes_max = \"big\"\n", "node.toml:5: buffer.bytes_max"},
      {"\n\n[buffer]\nholdout_fraction = 1.5\n", "node.toml:7: buffer.holdout_fraction"},
      {"[model]\nvariant = \"int4\"\n", "node.toml:5: model.variant"},
      {"[training]\ntime_max = \"soon\"\n", "node.toml:5: training.time_max"},
      {"[trainign]\ntime_max = \"1m\"\n", "node.toml:4: trainign"},
  }));
  const auto& [text, place] = wrong;  // After the three lines of what is required.
  CAPTURE(text);
  CHECK_THAT(error_of(required + text), Catch::Matchers::StartsWith(place));
  CHECK(error_of("fleet = \"12\"\n").find("node.toml") != std::string::npos);
  CHECK(error_of(required.substr(required.find('\n') + 1)).find("coordinator") != std::string::npos);
}

}  // namespace
}  // namespace rivulet::node
