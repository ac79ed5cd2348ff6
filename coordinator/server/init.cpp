#include "coordinator/server/init.h"

#include <spdlog/fmt/fmt.h>

#include "coordinator/core/coordinator.h"
#include "coordinator/server/config_file.h"
#include "link/disk.h"
#include "models/package/release.h"
#include "protocol/keys.h"
#include "protocol/trust.h"
#include "storage/file.h"
#include "storage/rocksdb_store.h"

namespace rivulet::coordinator {
namespace {

namespace fs = std::filesystem;

constexpr auto trust_validity = std::chrono::days(365);

Status check_unused(const fs::path& folder) {
  if (folder.empty()) return fail(Errc::invalid, "the folder's name is empty: name a new folder");
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (status.type() == fs::file_type::not_found) return {};
  if (status.type() == fs::file_type::none) {
    return fail(Errc::permission, fmt::format("{} cannot be looked at: {}: name another folder",
                                              folder.string(), error.message()));
  }
  if (status.type() != fs::file_type::directory) {
    return fail(Errc::conflict, folder.string() + " is not a folder: name another one");
  }
  const bool empty = fs::is_empty(folder, error);
  if (error) return fail(Errc::permission, "cannot read " + folder.string() + ": " + error.message());
  if (!empty) {
    return fail(Errc::conflict, folder.string() +
                                    " is not empty: nothing was changed; name a new folder, or use the "
                                    "coordinator that is there");
  }
  return {};
}

struct Keys {
  SecretKey root = SecretKey::generate();
  SecretKey release = SecretKey::generate();
  SecretKey coordinator = SecretKey::generate();
};

SignedTrust first_trust(const InitOptions& options, const Keys& keys, Now now) {
  TrustDocument document;
  document.fleet = FleetId::from_bytes(random_bytes(FleetId::size)).value();
  document.name = options.fleet;
  document.created = now.utc;
  document.expires = now.utc + trust_validity;
  document.root = keys.root.public_key();
  document.release_keys = {keys.release.public_key()};
  document.coordinator = keys.coordinator.public_key();
  return sign_trust(document, keys.root);
}

Status fill(const InitOptions& options, Now now) {
  const fs::path& folder = options.folder;
  const Keys keys;
  Status status = make_folder(folder / "offline");
  if (status) status = keys.root.save(folder / "offline" / "root.key");
  if (status) status = keys.release.save(folder / "offline" / "release.key");
  if (status) status = keys.coordinator.save(folder / "coordinator.key");
  const std::string token = to_base64url(random_bytes(32)) + "\n";
  if (status) status = write_file_durably(folder / "admin.token", bytes_of(token));
  if (!status) return status;

  const auto writes =
      found_fleet(first_trust(options, keys, now), load_le<std::uint64_t>(random_bytes(8)), now);
  if (!writes) return std::unexpected(writes.error());
  auto store = open_rocksdb_store(folder / "store", families);
  if (!store) return std::unexpected(store.error());
  status = (*store)->commit(*writes, Durability::synced);
  if (!status) return status;
  // Last, as `run` asks for it first: a folder without it was not finished.
  const std::string config = render_config(options.listen, options.admin);
  return write_file_durably(folder / "coordinator.toml", bytes_of(config), 0644);
}

}  // namespace

Status init_folder(const InitOptions& options, Now now) {
  if (Status status = check_name(options.fleet, "fleet"); !status) return status;
  if (Status status = check_unused(options.folder); !status) return status;
  std::error_code error;
  const bool existed = fs::exists(options.folder, error);
  if (Status status = check_room_to_open(options.folder / "store"); !status) return status;
  if (Status status = make_folder(options.folder); !status) return status;
  Status status = fill(options, now);
  if (!status) {
    // Nothing was in it before, so all that is there now is ours.
    for (const auto& entry : fs::directory_iterator(options.folder, error))
      fs::remove_all(entry.path(), error);
    if (!existed) fs::remove(options.folder, error);
  }
  return status;
}

}  // namespace rivulet::coordinator
