#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/admin_client.h"
#include "cli/distillation.h"
#include "protocol/ids.h"
#include "protocol/result.h"

/// What the subcommands of `rivulet` do. Each prints its result to standard output, one JSON document if
/// `json`, else text for people; an error is returned, and printed by main().
namespace rivulet::cli {

/// Prints the token alone.
Status create_token(const ConnectionOptions& connection, const std::string& expires, std::uint32_t uses);
Status list_tokens(const ConnectionOptions& connection, bool json);
/// @param id a unique prefix of a token's id.
Status revoke_token(const ConnectionOptions& connection, const std::string& id);
Status list_nodes(const ConnectionOptions& connection, bool json);
/// @param tags replace the former ones.
Status tag_node(const ConnectionOptions& connection, const std::string& key,
                const std::vector<std::string>& tags);
/// @param action "quarantine", "release" or "revoke".
Status change_node(const ConnectionOptions& connection, const std::string& key, const std::string& action);
Status show_status(const ConnectionOptions& connection, bool json);

struct ImportOptions {
  std::filesystem::path spec;
  std::filesystem::path release_key;
  std::uint64_t seed = 1;
  std::optional<std::uint64_t> epoch;  ///< Nothing: that of the active release.
  bool json = false;
};
/// Lets rivulet-model prepare the specification, signs the release, and hands it to the coordinator.
Status import_model(const ConnectionOptions& connection, const ImportOptions& options);

struct DistillCommand {
  std::filesystem::path spec;  ///< Of the student.
  VersionNumber teacher = 0;
  DistillOptions options;
  std::filesystem::path release_key;
  std::uint64_t seed = 1;
  bool json = false;
};
/// Lets rivulet-model train a student of a version, and imports it as a release of its own.
Status distill_model(const ConnectionOptions& connection, const DistillCommand& command);

struct PruneCommand {
  VersionNumber version = 0;
  double fraction = 0.5;
  bool code = false;  ///< Also an autoencoder's code.
  std::filesystem::path release_key;
  bool json = false;
};
/// Takes the weakest channels from a version, and imports what is left as a release of its own.
Status prune_model(const ConnectionOptions& connection, const PruneCommand& command);
Status list_models(const ConnectionOptions& connection, bool json);
Status show_model(const ConnectionOptions& connection, VersionNumber version, bool json);
/// Prints what every engine of this machine makes of every variant of a version. @param svg gets a chart,
/// unless it is empty.
Status profile_model(const ConnectionOptions& connection, VersionNumber version, bool json,
                     const std::filesystem::path& svg);
/// @param format "npz", "safetensors" or "torchscript". @return invalid for another one.
Status export_model(const ConnectionOptions& connection, VersionNumber version, const std::string& format,
                    const std::filesystem::path& out);

/// @param wait prints each round when it ends. @return refused if one of them publishes no version.
Status start_rounds(const ConnectionOptions& connection, std::uint32_t count, bool wait, bool json);
/// @param round nothing: the one that runs, or the last.
Status show_round(const ConnectionOptions& connection, std::optional<RoundNumber> round, bool json);
Status list_rounds(const ConnectionOptions& connection, bool json);

/// @param root_key may be empty; else the document must be signed by it.
Status show_trust(const ConnectionOptions& connection, const std::filesystem::path& root_key, bool json);
/// Signs the trust document anew with the next number and a new expiry.
Status renew_trust(const ConnectionOptions& connection, const std::filesystem::path& root_key,
                   const std::string& expires);
/// The same with a new root, which both roots sign. @param new_root_key is made if it is not there.
Status rotate_trust(const ConnectionOptions& connection, const std::filesystem::path& root_key,
                    const std::filesystem::path& new_root_key, const std::string& expires);

struct AuditOptions {
  bool verify = false;
  std::filesystem::path file;  ///< Of saved entries, "-" for standard input; empty: the coordinator's log.
  std::string head;            ///< The hash that one of the entries must have; may be empty.
};
/// Prints the entries, or with `verify` checks their chain. @return corrupt, naming the first wrong entry,
/// or if there is none, or none with that hash.
Status show_audit(const ConnectionOptions& connection, const AuditOptions& options);

}  // namespace rivulet::cli
