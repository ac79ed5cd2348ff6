#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "coordinator/core/config.h"
#include "protocol/endpoint.h"
#include "protocol/limits.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

/// What the daemon needs beside the core's configuration.
struct ServerSettings {
  Endpoint listen{"127.0.0.1", 7443};  ///< For nodes; port 0 picks one.
  Endpoint admin{"127.0.0.1", 7480};   ///< HTTP for the operator and for metrics.
  std::string public_address;          ///< HOST:PORT in join tokens; empty: where it listens.
  std::size_t worker_threads = 0;      ///< That share an aggregation; 0: one a core, at most 16.
  std::size_t admin_threads = 8;
  std::uint64_t admin_body_bytes_max = std::uint64_t{256} << 20;  ///< Of an imported release with its data.
  std::uint64_t blob_quota_bytes = std::uint64_t{16} << 30;
  Limits limits;
};

/// coordinator.toml; render_config() shows every key with its default.
struct ConfigFile {
  Config core;
  ServerSettings server;
};

/// @return invalid with file, line and key for what is unknown, of a wrong type or contradictory;
/// not_found.
Result<ConfigFile> load_config(const std::filesystem::path& file);
/// The same from text. @param source stands in errors.
Result<ConfigFile> parse_config(std::string_view text, const std::filesystem::path& source);

/// A file with every key at its default and a comment; parse_config() reads it.
std::string render_config(const Endpoint& listen, const Endpoint& admin);

}  // namespace rivulet::coordinator
