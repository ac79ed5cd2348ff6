#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "node/core/state.h"
#include "node/daemon/config_file.h"
#include "node/daemon/sample_store.h"
#include "node/daemon/serial_store.h"
#include "protocol/keys.h"
#include "storage/blob_store.h"
#include "storage/file.h"

namespace rivulet::node {

/// How the program names itself to coordinators.
inline constexpr const char* software_name = "rivulet 0.1.0";

/// Where a node keeps what it has.
struct FolderPaths {
  explicit FolderPaths(std::filesystem::path folder);

  std::filesystem::path folder;
  std::filesystem::path config_file;  ///< node.toml: a folder that has it has joined.
  std::filesystem::path key_file;     ///< node.key, 0600
  std::filesystem::path token_file;   ///< api.token, 0600
  std::filesystem::path run_file;     ///< run.json, while a daemon runs
  std::filesystem::path store;        ///< RocksDB: the agent's records and the samples
  std::filesystem::path blobs;        ///< models and deltas
};

/// A joined node's folder, open and held for this process.
struct NodeFolder {
  FolderPaths paths;
  NodeConfig config;
  SecretKey key;
  FolderLock lock;
  std::unique_ptr<SerialStore> store;
  std::unique_ptr<BlobStore> blobs;
  std::unique_ptr<SampleStore> samples;
};

/// @return invalid for a folder that has not joined and for a wrong node.toml; conflict if a process holds
/// it; permission for a loose key file; storage, corrupt, unsupported.
Result<std::unique_ptr<NodeFolder>> open_node_folder(const std::filesystem::path& folder);

/// The agent's state as its records tell it. @return corrupt, storage.
Result<State> recover_agent(const NodeFolder& folder);

/// All families of a node's store.
std::vector<std::string> store_families();

/// The content of api.token. @return permission if others may read it.
Result<std::string> read_token(const FolderPaths& paths);

}  // namespace rivulet::node
