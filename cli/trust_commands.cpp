#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/files.h"
#include "cli/text.h"
#include "coordinator/core/records.h"
#include "protocol/envelope.h"
#include "protocol/trust.h"

namespace rivulet::cli {
namespace {

using nlohmann::json;

struct Trust {
  SignedTrust trust;
  TrustDocument document;
  json shown;  ///< As the coordinator shows the document.
};

Result<Trust> get_trust(AdminClient& client) {
  const auto answer = client.get_json("/v1/trust");
  if (!answer) return std::unexpected(answer.error());
  const std::string text = answer->at("signed").dump();
  auto trust = coordinator::parse_record<SignedTrust>(bytes_of(text));
  if (!trust) return fail_at("the coordinator's trust document", trust.error());
  auto document = decode_trust(trust->payload);
  if (!document) return fail_at("the coordinator's trust document", document.error());
  return Trust{std::move(*trust), std::move(*document), answer->at("document")};
}

/// Whether the root key's owner signed the document before: who signs its successor vouches for all in it.
Status check_signed(const Trust& trust, const SecretKey& root, const std::filesystem::path& file) {
  const PublicKey& key = root.public_key();
  if (trust.document.root != key) {
    return fail(Errc::refused, fmt::format("{} is the key {}, but the fleet's root is {}: give that one",
                                           file.string(), key.hex().substr(0, short_digits),
                                           trust.document.root.hex().substr(0, short_digits)));
  }
  const bool signed_by_root =
      std::ranges::any_of(trust.trust.signatures, [&](const SignedTrust::KeySignature& entry) {
        return entry.key == key && verify_payload(key, Context::trust, trust.trust.payload, entry.signature);
      });
  if (signed_by_root) return {};
  return fail(
      Errc::refused,
      "the coordinator's trust document is not signed by this root key: don't trust this coordinator");
}

/// The next document: the same keys, now, with a new expiry.
Result<TrustDocument> successor(const TrustDocument& current, const std::string& expires) {
  const auto lifetime = parse_duration(expires);
  if (!lifetime) return fail_at("--expires", lifetime.error());
  if (*lifetime <= std::chrono::seconds(0)) return fail(Errc::invalid, "--expires must be 1s or longer");
  TrustDocument next = current;
  ++next.version;
  next.created = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  next.expires = next.created + *lifetime;
  return next;
}

Status post_trust(AdminClient& client, const SignedTrust& trust) {
  const auto answer = client.post("/v1/trust", coordinator::to_json(trust));
  if (!answer) return std::unexpected(answer.error());
  print(fmt::format("trust document {} expires {}\n", answer->at("version").get<std::uint64_t>(),
                    answer->at("expires").get<std::string>()));
  return {};
}

Result<SecretKey> load_or_make_key(const std::filesystem::path& file) {
  auto existing = SecretKey::load(file);
  if (existing || existing.error().code != Errc::not_found) return existing;
  auto made = SecretKey::generate();
  if (const Status saved = made.save(file); !saved) return std::unexpected(as_usage(saved.error()));
  return made;
}

}  // namespace

Status show_trust(const ConnectionOptions& connection, const std::filesystem::path& root_key, bool as_json) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto trust = get_trust(*client);
  if (!trust) return std::unexpected(trust.error());
  if (!root_key.empty()) {
    const auto root = load_key(root_key, "root key");
    if (!root) return std::unexpected(root.error());
    if (const Status status = check_signed(*trust, *root, root_key); !status) return status;
  }
  if (as_json) {
    print(json_line(trust->shown));
    return {};
  }
  const TrustDocument& document = trust->document;
  std::vector<std::pair<std::string, std::string>> fields = {
      {"fleet", document.name + " " + document.fleet.hex()},
      {"document", std::to_string(document.version)},
      {"created", to_rfc3339(document.created)},
      {"expires", to_rfc3339(document.expires)},
      {"root key", document.root.hex()}};
  for (const PublicKey& key : document.release_keys) fields.emplace_back("release key", key.hex());
  fields.emplace_back("coordinator key", document.coordinator.hex());
  print(fields_text(fields));
  return {};
}

Status renew_trust(const ConnectionOptions& connection, const std::filesystem::path& root_key,
                   const std::string& expires) {
  const auto root = load_key(root_key, "root key");
  if (!root) return std::unexpected(root.error());
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto trust = get_trust(*client);
  if (!trust) return std::unexpected(trust.error());
  if (const Status status = check_signed(*trust, *root, root_key); !status) return status;
  const auto next = successor(trust->document, expires);
  if (!next) return std::unexpected(next.error());
  return post_trust(*client, sign_trust(*next, *root));
}

Status rotate_trust(const ConnectionOptions& connection, const std::filesystem::path& root_key,
                    const std::filesystem::path& new_root_key, const std::string& expires) {
  const auto root = load_key(root_key, "root key");
  if (!root) return std::unexpected(root.error());
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto trust = get_trust(*client);
  if (!trust) return std::unexpected(trust.error());
  if (const Status status = check_signed(*trust, *root, root_key); !status) return status;
  auto next = successor(trust->document, expires);
  if (!next) return std::unexpected(next.error());
  // Saved before it is in force, so that no fleet ever has a root that nobody holds.
  const auto new_root = load_or_make_key(new_root_key);
  if (!new_root) return fail_at("new root key", new_root.error());
  if (new_root->public_key() == root->public_key()) {
    return fail(Errc::invalid,
                fmt::format("{} is the root key already: name a new file", new_root_key.string()));
  }
  next->root = new_root->public_key();
  return post_trust(*client, sign_trust(*next, *new_root, &*root));
}

}  // namespace rivulet::cli
