#include "node/daemon/config_file.h"

#include <spdlog/fmt/fmt.h>

#include "config/toml_reader.h"

namespace rivulet::node {
namespace {

Endpoint read_endpoint(TomlReader& section, std::string_view key, const Endpoint& otherwise) {
  if (!section.has(key)) return otherwise;
  const auto endpoint = parse_endpoint(section.text(key, to_string(otherwise)));
  if (endpoint) return *endpoint;
  section.reject(key, "is no address: " + endpoint.error().detail);
  return otherwise;
}

template <typename Id>
Id read_id(TomlReader& section, std::string_view key) {
  if (!section.require(key)) return {};
  const auto id = Id::from_hex(section.text(key, ""));
  if (id) return *id;
  section.reject(key, fmt::format("must be {} hexadecimal digits", 2 * Id::size));
  return {};
}

std::uint64_t read_count(TomlReader& section, std::string_view key, std::uint64_t otherwise, std::int64_t min,
                         std::int64_t max = TomlReader::integer_max) {
  return static_cast<std::uint64_t>(section.integer(key, static_cast<std::int64_t>(otherwise), min, max));
}

Result<NodeConfig> read_config(TomlReader reader) {
  NodeConfig config;
  if (reader.require("coordinator"))
    config.coordinator = read_endpoint(reader, "coordinator", {"localhost", 7443});
  config.fleet = read_id<FleetId>(reader, "fleet");
  config.root = read_id<PublicKey>(reader, "root_key");

  TomlReader api = reader.table("api");
  config.api = read_endpoint(api, "listen", config.api);
  if (config.api.host != "127.0.0.1" && config.api.host != "localhost") {
    api.reject("listen",
               "must be 127.0.0.1:PORT or localhost:PORT: the API has no TLS, so it stays on this machine");
  }
  config.api_threads = static_cast<std::uint32_t>(read_count(api, "threads", config.api_threads, 1, 256));
  config.busy_poll_max =
      std::chrono::microseconds(read_count(api, "busy_poll_us", config.busy_poll_max.count(), 0, 10'000));
  config.payload_bytes_max = read_count(api, "payload_bytes_max", config.payload_bytes_max, 1024, 1 << 30);

  TomlReader buffer = reader.table("buffer");
  config.buffer_bytes_max = read_count(buffer, "bytes_max", config.buffer_bytes_max, 64 * 1024);
  config.buffer_age_max = buffer.duration("age_max", config.buffer_age_max);
  config.holdout_fraction = buffer.number("holdout_fraction", config.holdout_fraction, 0.0, 0.9);

  TomlReader model = reader.table("model");
  config.models_bytes_max = read_count(model, "bytes_max", config.models_bytes_max, 1 << 20);
  config.weights_bytes_max = read_count(model, "weights_bytes_max", config.weights_bytes_max, 1 << 10);
  config.variant = model.choice("variant", config.variant, {"auto", "fp32", "int8"});
  config.memory_max = read_count(model, "memory_max", config.memory_max, 0);
  config.latency_max_us = model.number("latency_max_us", config.latency_max_us, 0.0, 1e9);
  config.speed = model.number("speed", config.speed, 1e-3, 1e3);

  TomlReader training = reader.table("training");
  config.training_time_max = training.duration("time_max", config.training_time_max, std::chrono::seconds{1});

  if (const auto status = reader.finish(); !status) return std::unexpected(status.error());
  return config;
}

}  // namespace

Result<NodeConfig> load_node_config(const std::filesystem::path& file) {
  auto reader = TomlReader::read_file(file);
  if (!reader) return std::unexpected(reader.error());
  return read_config(std::move(*reader));
}

Result<NodeConfig> parse_node_config(std::string_view text, const std::filesystem::path& source) {
  auto reader = TomlReader::parse(text, source);
  if (!reader) return std::unexpected(reader.error());
  return read_config(std::move(*reader));
}

std::string to_toml(const NodeConfig& config) {
  return fmt::format(
      R"(# The settings of rivulet-node. A change counts from the next start on. An unknown key is an error.
coordinator = "{}"  # HOST:PORT that the join token named
fleet = "{}"  # its id, by the token
root_key = "{}"  # that signs the fleet's trust documents, by the token

[api]
listen = "{}"  # loopback only; port 0 picks one
threads = {}  # that answer requests
payload_bytes_max = {}  # of one request
busy_poll_us = {}  # to poll for a next request before sleeping, while they come that soon; 0 saves power

[buffer]
bytes_max = {}  # of samples on disk; when full the oldest are dropped
age_max = "{}s"  # older samples are dropped; 0s: never
holdout_fraction = {}  # of the samples, never trained on

[model]
bytes_max = {}  # of models and deltas on disk
weights_bytes_max = {}  # of one model; larger ones are refused
variant = "{}"  # to serve: auto, the best that fits what follows; or int8 or fp32
memory_max = {}  # bytes that the served model and its activations may take; 0: any
latency_max_us = {}  # for one sample, if a variant is as fast; 0: any
speed = {}  # of this device, in ratio to the machine that a version's times were measured on

[training]
time_max = "{}s"  # a longer training is given up
)",
      to_string(config.coordinator), config.fleet.hex(), config.root.hex(), to_string(config.api),
      config.api_threads, config.payload_bytes_max, config.busy_poll_max.count(), config.buffer_bytes_max,
      config.buffer_age_max.count(), config.holdout_fraction, config.models_bytes_max,
      config.weights_bytes_max, config.variant, config.memory_max, config.latency_max_us, config.speed,
      config.training_time_max.count());
}

}  // namespace rivulet::node
