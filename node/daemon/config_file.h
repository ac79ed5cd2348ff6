#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "protocol/endpoint.h"
#include "protocol/ids.h"
#include "protocol/result.h"

namespace rivulet::node {

/// What stands in D/node.toml. `join` writes it; an operator may change it between runs.
struct NodeConfig {
  Endpoint coordinator;
  FleetId fleet;
  PublicKey root;

  Endpoint api{"127.0.0.1", 0};  ///< Loopback only: the API has no TLS. Port 0 picks one.
  std::uint32_t api_threads = 8;
  std::uint64_t payload_bytes_max = 8 << 20;  ///< Of one request.
  /// Behind an answer the API polls so long for the next request, while requests come that soon; 0: never.
  std::chrono::microseconds busy_poll_max{200};

  std::uint64_t buffer_bytes_max = 128 << 20;  ///< Samples on disk; when full the oldest are dropped.
  std::chrono::seconds buffer_age_max{0};      ///< Older samples are dropped; 0: never.
  double holdout_fraction = 0.2;               ///< Of the samples, never trained on.

  std::uint64_t models_bytes_max = std::uint64_t{2} << 30;     ///< Models and deltas on disk together.
  std::uint64_t weights_bytes_max = std::uint64_t{256} << 20;  ///< Of one model; larger ones are refused.
  std::string variant = "auto";  ///< To serve: the best that fits, or one by its name if it is offered.
  std::uint64_t memory_max = 0;  ///< Of DeviceLimits,
  double latency_max_us = 0;     ///< and so
  double speed = 1.0;            ///< are these.
  std::chrono::seconds training_time_max{1800};  ///< A longer training is given up.

  bool operator==(const NodeConfig&) const = default;
};

/// Reads the TOML form below; an unknown key, a wrong type or a value out of bounds is an error.
/// @return invalid with file, key and line; what TomlReader::read_file returns.
Result<NodeConfig> load_node_config(const std::filesystem::path& file);
/// @param source stands in errors.
Result<NodeConfig> parse_node_config(std::string_view text, const std::filesystem::path& source);

/// The text of a node.toml with every key, each with its unit and meaning.
std::string to_toml(const NodeConfig& config);

}  // namespace rivulet::node
