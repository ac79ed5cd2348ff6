#include "node/daemon/folder.h"

#include <sys/stat.h>

#include "node/core/records.h"
#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"

namespace rivulet::node {

FolderPaths::FolderPaths(std::filesystem::path where)
    : folder(std::move(where)),
      config_file(folder / "node.toml"),
      key_file(folder / "node.key"),
      token_file(folder / "api.token"),
      run_file(folder / "run.json"),
      store(folder / "store"),
      blobs(folder / "blobs") {}

std::vector<std::string> store_families() {
  std::vector<std::string> all(families.begin(), families.end());
  all.insert(all.end(), sample_families.begin(), sample_families.end());
  return all;
}

Result<std::unique_ptr<NodeFolder>> open_node_folder(const std::filesystem::path& folder) {
  FolderPaths paths(folder);
  std::error_code ignored;  // What cannot be examined cannot be read either, which tells why.
  if (!std::filesystem::exists(paths.config_file, ignored)) {
    return fail(Errc::invalid, folder.string() +
                                   " is not a node's folder (it has no node.toml): 'rivulet-node join "
                                   "TOKEN --dir " +
                                   folder.string() + "' makes it one");
  }
  auto config = load_node_config(paths.config_file);
  if (!config) return std::unexpected(config.error());
  auto lock = lock_folder(folder);
  if (!lock) return std::unexpected(lock.error());
  auto key = SecretKey::load(paths.key_file);
  if (!key) return std::unexpected(key.error());
  for (const auto& sub : {paths.store, paths.blobs}) {
    if (const auto made = make_folder(sub); !made) return std::unexpected(made.error());
  }
  auto store = open_rocksdb_store(paths.store, store_families());
  if (!store) return std::unexpected(store.error());
  auto blobs = open_file_blob_store(paths.blobs, {.bytes_max = config->models_bytes_max});
  if (!blobs) return std::unexpected(blobs.error());
  auto serial = std::make_unique<SerialStore>(std::move(*store));
  auto samples = SampleStore::open(*serial, {.bytes_max = config->buffer_bytes_max,
                                             .age_max = config->buffer_age_max,
                                             .holdout_fraction = config->holdout_fraction});
  if (!samples) return std::unexpected(samples.error());
  return std::unique_ptr<NodeFolder>(new NodeFolder{std::move(paths), std::move(*config), std::move(*key),
                                                    std::move(*lock), std::move(serial), std::move(*blobs),
                                                    std::move(*samples)});
}

Result<State> recover_agent(const NodeFolder& folder) {
  std::vector<Put> records;
  for (const std::string_view family : families) {
    const auto status =
        folder.store->scan(family, {},
                           [&](ByteSpan key, ByteSpan value) {
                             records.push_back({std::string(family), copy_of(key), copy_of(value)});
                             return true;
                           },
                           {});
    if (!status) return std::unexpected(status.error());
  }
  Config config;
  config.node = folder.key.public_key();
  config.root = folder.config.root;
  config.software = software_name;
  config.variant = folder.config.variant;
  return recover(config, load_le<std::uint64_t>(random_bytes(sizeof(std::uint64_t))), records);
}

Result<std::string> read_token(const FolderPaths& paths) {
  struct stat info{};
  if (::stat(paths.token_file.c_str(), &info) == 0 && (info.st_mode & 077) != 0) {
    return fail(Errc::permission, paths.token_file.string() + " may be read by others: chmod 600 it");
  }
  const auto bytes = read_file(paths.token_file, 1024);
  if (!bytes) return std::unexpected(bytes.error());
  std::string token(text_of(*bytes));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  if (token.size() < 16)
    return fail(Errc::corrupt, paths.token_file.string() + " holds no token of 16 characters or more");
  return token;
}

}  // namespace rivulet::node
