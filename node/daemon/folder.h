#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "config/software.h"
#include "node/core/state.h"
#include "node/daemon/config_file.h"
#include "node/daemon/sample_store.h"
#include "node/daemon/serial_store.h"
#include "protocol/keys.h"
#include "storage/blob_store.h"
#include "storage/file.h"

namespace rivulet::node {

/// How the program names itself to coordinators.
using rivulet::software_name;

/// Where a node keeps what it has.
struct FolderPaths {
  explicit FolderPaths(std::filesystem::path folder);

  std::filesystem::path folder;
  std::filesystem::path config_file;   ///< node.toml: a folder that has it has joined.
  std::filesystem::path key_file;      ///< node.key, 0600
  std::filesystem::path token_file;    ///< api.token, 0600
  std::filesystem::path run_file;      ///< run.json, while a daemon runs
  std::filesystem::path ballast_file;  ///< ballast: see ballast.h
  std::filesystem::path store;         ///< RocksDB: the agent's records and the samples
  std::filesystem::path blobs;         ///< models and deltas
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
  bool ballast_used = false;  ///< The disk was too full to open the store, but for the ballast.
};

/// Whether a join has finished there. @return permission if that cannot be seen.
Result<bool> has_joined(const FolderPaths& paths);

/// How long a command, or a daemon that starts, waits for a command that has the folder.
inline constexpr std::chrono::seconds folder_patience{5};
inline constexpr std::chrono::milliseconds folder_poll{20};

/// The HOST:PORT of the daemon that holds a folder. @return nothing if its holder is none (yet): a run.json
/// that names another process was left by a daemon that was killed, and anyone may listen at its address by
/// now.
Result<std::optional<std::string>> api_of_holder(const FolderPaths& paths, const FolderHolder& holder);

enum class OnFullDisk : std::uint8_t { refuse, use_ballast };

/// Waits for a command that has it. @return invalid for a folder that has not joined and for a wrong
/// node.toml; conflict if a process holds it; permission for a loose key file; storage, corrupt, unsupported.
/// @param on_full_disk whether the ballast is given for it: by who answers, not by who wants to store more.
Result<std::unique_ptr<NodeFolder>> open_node_folder(const std::filesystem::path& folder,
                                                     OnFullDisk on_full_disk = OnFullDisk::refuse);

/// The agent's state as its records tell it. @return corrupt, storage.
Result<State> recover_agent(const NodeFolder& folder);

/// All families of a node's store.
std::vector<std::string> store_families();

/// The content of api.token. @return permission if others may read it.
Result<std::string> read_token(const FolderPaths& paths);

}  // namespace rivulet::node
