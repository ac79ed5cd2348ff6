#include "node/daemon/folder.h"

#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "link/disk.h"
#include "models/runtime/int8/backend.h"
#include "node/core/records.h"
#include "node/daemon/ballast.h"
#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"

namespace rivulet::node {

FolderPaths::FolderPaths(std::filesystem::path where)
    : folder(std::move(where)),
      config_file(folder / "node.toml"),
      key_file(folder / "node.key"),
      token_file(folder / "api.token"),
      run_file(folder / "run.json"),
      ballast_file(folder / "ballast"),
      store(folder / "store"),
      blobs(folder / "blobs") {}

std::vector<std::string> store_families() {
  std::vector<std::string> all(families.begin(), families.end());
  all.insert(all.end(), sample_families.begin(), sample_families.end());
  return all;
}

Result<bool> has_joined(const FolderPaths& paths) {
  std::error_code error;
  const auto type = std::filesystem::status(paths.config_file, error).type();
  if (type != std::filesystem::file_type::none) return type != std::filesystem::file_type::not_found;
  return fail(Errc::permission,
              fmt::format("{} cannot be looked at: {}", paths.config_file.string(), error.message()));
}

Result<std::optional<std::string>> api_of_holder(const FolderPaths& paths, const FolderHolder& holder) {
  const auto run = read_file(paths.run_file, 4096);
  if (!run && run.error().code == Errc::not_found) return std::optional<std::string>();
  if (!run) return std::unexpected(run.error());
  const nlohmann::json json = nlohmann::json::parse(text_of(*run), nullptr, false);
  const bool sound = json.is_object() && json.contains("api") && json["api"].is_string() &&
                     json.contains("pid") && json["pid"].is_number_integer();
  if (!sound) {
    return fail(Errc::corrupt,
                paths.run_file.string() + " is no JSON with \"pid\" and \"api\": start the daemon again");
  }
  if (json["pid"].get<std::int64_t>() != holder.process) return std::optional<std::string>();
  return json["api"].get<std::string>();
}

namespace {

/// A command is soon done with the folder; a daemon is not.
Result<FolderLock> lock_patiently(const FolderPaths& paths) {
  const auto patience_end = std::chrono::steady_clock::now() + folder_patience;
  while (true) {
    auto lock = lock_folder(paths.folder);
    if (lock || lock.error().code != Errc::conflict) return lock;
    if (std::chrono::steady_clock::now() > patience_end) return lock;
    const auto holder = folder_holder(paths.folder);
    if (holder && *holder) {
      const auto api = api_of_holder(paths, **holder);
      if (api && *api) return lock;
    }
    std::this_thread::sleep_for(folder_poll);
  }
}

Result<std::unique_ptr<Store>> open_store(const FolderPaths& paths) {
  if (const auto status = check_room_to_open(paths.store); !status) return std::unexpected(status.error());
  return open_rocksdb_store(paths.store, store_families());
}

}  // namespace

Result<std::unique_ptr<NodeFolder>> open_node_folder(const std::filesystem::path& folder,
                                                     OnFullDisk on_full_disk) {
  FolderPaths paths(folder);
  const auto joined = has_joined(paths);
  if (!joined) return std::unexpected(joined.error());
  if (!*joined) {
    return fail(Errc::invalid, folder.string() +
                                   " is not a node's folder (it has no node.toml): 'rivulet-node join "
                                   "TOKEN --dir " +
                                   folder.string() + "' makes it one");
  }
  auto config = load_node_config(paths.config_file);
  if (!config) return std::unexpected(config.error());
  auto lock = lock_patiently(paths);
  if (!lock) return std::unexpected(lock.error());
  std::error_code ignored;  // What a daemon left that was killed: nobody believes it.
  std::filesystem::remove(paths.run_file, ignored);
  auto key = SecretKey::load(paths.key_file);
  if (!key && key.error().code == Errc::not_found) {
    return fail(Errc::not_found, "there is no " + paths.key_file.string() +
                                     ": revoke the node, and join again in a new folder");
  }
  if (!key) return std::unexpected(key.error());
  for (const auto& sub : {paths.store, paths.blobs}) {
    if (const auto made = make_folder(sub); !made) return std::unexpected(made.error());
  }
  auto store = open_store(paths);
  const bool full = !store && store.error().code == Errc::storage_full;
  const bool ballast_used = full && on_full_disk == OnFullDisk::use_ballast && drop_ballast(paths);
  if (ballast_used) store = open_store(paths);
  if (!store) return std::unexpected(told_to_mend(store.error()));
  auto blobs = open_file_blob_store(paths.blobs, {.bytes_max = config->models_bytes_max});
  if (!blobs) return std::unexpected(blobs.error());
  auto serial = std::make_unique<SerialStore>(std::move(*store));
  auto samples = SampleStore::open(*serial, {.bytes_max = config->buffer_bytes_max,
                                             .age_max = config->buffer_age_max,
                                             .holdout_fraction = config->holdout_fraction});
  if (!samples) return std::unexpected(samples.error());
  if (on_full_disk == OnFullDisk::use_ballast) keep_ballast(paths);
  return std::unique_ptr<NodeFolder>(new NodeFolder{std::move(paths), std::move(*config), std::move(*key),
                                                    std::move(*lock), std::move(serial), std::move(*blobs),
                                                    std::move(*samples), ballast_used});
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
  config.device = {.memory_max = folder.config.memory_max,
                   .latency_max_us = folder.config.latency_max_us,
                   .speed = folder.config.speed,
                   .has_int8 = !int8_backends().empty()};
  config.model_bytes_max = folder.config.weights_bytes_max;
  auto state = recover(config, load_le<std::uint64_t>(random_bytes(sizeof(std::uint64_t))), records);
  // What the disk has lost since is fetched again.
  if (state) {
    std::erase_if(state->transfers.present, [&](const ContentId& id) { return !folder.blobs->contains(id); });
  }
  return state;
}

Result<std::string> read_token(const FolderPaths& paths) {
  struct stat info{};
  if (::stat(paths.token_file.c_str(), &info) == 0 && (info.st_mode & 077) != 0) {
    return fail(Errc::permission, paths.token_file.string() + " may be read by others: chmod 600 it");
  }
  const auto bytes = read_file(paths.token_file, 1024);
  if (!bytes && bytes.error().code == Errc::not_found) {
    return fail(Errc::not_found,
                fmt::format("there is no {0}: make a new one: (umask 077; head -c 32 /dev/urandom | "
                            "base64 > {0})",
                            paths.token_file.string()));
  }
  if (!bytes) return std::unexpected(bytes.error());
  std::string token(text_of(*bytes));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  if (token.size() < 16)
    return fail(Errc::corrupt, paths.token_file.string() + " holds no token of 16 characters or more");
  return token;
}

}  // namespace rivulet::node
