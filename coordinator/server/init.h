#pragma once

#include <filesystem>
#include <string>

#include "protocol/endpoint.h"
#include "protocol/now.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

struct InitOptions {
  std::filesystem::path folder;
  std::string fleet = "rivulet";  ///< 1 to 64 letters, digits, '.', '_' or '-'.
  Endpoint listen{"127.0.0.1", 7443};
  Endpoint admin{"127.0.0.1", 7480};
};

/// Founds a fleet in an empty or missing folder:
///   coordinator.toml    every setting with its default
///   coordinator.key     signs versions, and is who the coordinator is on the wire (0600)
///   admin.token         of the admin API (0600)
///   offline/root.key    signs the trust document, offline/release.key models: to be moved away (0600)
///   store/              RocksDB with the signed trust document, valid for a year
/// @return conflict for a folder that is in use, which stays as it is; invalid; permission, storage.
Status init_folder(const InitOptions& options, Now now);

}  // namespace rivulet::coordinator
