#include "protocol/trust.h"

#include "protocol/assert.h"
#include "protocol/envelope.h"
#include "protocol/payload.h"
#include "protocol/schema.capnp.h"

namespace rivulet {
namespace {

constexpr unsigned release_keys_max = 16;

bool signed_by(const SignedTrust& trust, const PublicKey& key) {
  for (const auto& entry : trust.signatures) {
    if (entry.key == key && verify_payload(key, Context::trust, trust.payload, entry.signature)) return true;
  }
  return false;
}

/// A link that a node passes over until it reaches what it knows: its own version, or, knowing none, the
/// first document of its root.
bool is_before(const TrustAnchor& anchor, const SignedTrust& link, const TrustDocument& document) {
  if (anchor.document) return document.version < anchor.document->version;
  return document.root != anchor.root && !signed_by(link, anchor.root);
}

std::string short_hex(const PublicKey& key) { return key.hex().substr(0, 12); }

}  // namespace

Bytes encode(const TrustDocument& document) {
  capnp::MallocMessageBuilder builder;
  auto out = builder.initRoot<wire::TrustDocument>();
  out.setFleet(payload::data(document.fleet));
  out.setName(document.name);
  out.setVersion(document.version);
  out.setCreated(document.created.time_since_epoch().count());
  out.setExpires(document.expires.time_since_epoch().count());
  out.setRootKey(payload::data(document.root));
  auto keys = out.initReleaseKeys(static_cast<unsigned>(document.release_keys.size()));
  for (unsigned i = 0; i < keys.size(); ++i) keys.set(i, payload::data(document.release_keys[i]));
  out.setCoordinatorKey(payload::data(document.coordinator));
  return payload::to_bytes(builder);
}

Result<TrustDocument> decode_trust(ByteSpan bytes) {
  return payload::read<wire::TrustDocument>(
      bytes, [](wire::TrustDocument::Reader in) -> Result<TrustDocument> {
        TrustDocument document;
        for (const Status& status :
             {payload::read_id(in.getFleet(), document.fleet, "fleet"),
              payload::read_text(in.getName(), document.name, "fleet name"),
              payload::read_id(in.getRootKey(), document.root, "root key"),
              payload::read_id(in.getCoordinatorKey(), document.coordinator, "coordinator key")}) {
          if (!status) return std::unexpected(status.error());
        }
        document.version = in.getVersion();
        document.created = UtcTime(std::chrono::milliseconds(in.getCreated()));
        document.expires = UtcTime(std::chrono::milliseconds(in.getExpires()));
        if (in.getReleaseKeys().size() > release_keys_max)
          return fail(Errc::corrupt, "too many release keys");
        for (const auto key : in.getReleaseKeys()) {
          const auto status = payload::read_id(key, document.release_keys.emplace_back(), "release key");
          if (!status) return std::unexpected(status.error());
        }
        return document;
      });
}

SignedTrust sign_trust(const TrustDocument& document, const SecretKey& root, const SecretKey* former_root) {
  SignedTrust trust;
  trust.payload = encode(document);
  trust.signatures.push_back({root.public_key(), sign_payload(root, Context::trust, trust.payload)});
  if (former_root != nullptr) {
    trust.signatures.push_back(
        {former_root->public_key(), sign_payload(*former_root, Context::trust, trust.payload)});
  }
  return trust;
}

Result<TrustDocument> follow_trust(const TrustAnchor& anchor, const std::vector<SignedTrust>& chain,
                                   UtcTime utc) {
  if (chain.empty()) return fail(Errc::refused, "the trust chain is empty");
  PublicKey root = anchor.root;
  std::optional<TrustDocument> latest = anchor.document;
  bool reached = false;  // A chain from the first document on begins before what most nodes know.
  for (const SignedTrust& link : chain) {
    auto document = decode_trust(link.payload);
    if (!document) return std::unexpected(document.error());
    reached = reached || &link == &chain.back() || !is_before(anchor, link, *document);
    if (!reached) continue;
    if (!signed_by(link, root)) {
      // Only a document that says to be by another root can be the end of a chain that we lack.
      const bool other_root = document->root != root && signed_by(link, document->root);
      return fail(other_root ? Errc::not_found : Errc::refused,
                  "trust document " + std::to_string(document->version) + " is not signed by root key " +
                      short_hex(root));
    }
    if (!signed_by(link, document->root)) {
      return fail(Errc::refused, "trust document " + std::to_string(document->version) + " names root key " +
                                     short_hex(document->root) + " without its signature");
    }
    if (latest) {
      if (document->fleet != latest->fleet)
        return fail(Errc::refused, "a trust document is of another fleet");
      if (document->version < latest->version) {
        return fail(Errc::refused, "trust document " + std::to_string(document->version) +
                                       " is older than the known " + std::to_string(latest->version) +
                                       ": rolled back");
      }
      if (document->version == latest->version && *document != *latest) {
        return fail(Errc::refused, "two different trust documents " + std::to_string(document->version));
      }
    }
    root = document->root;
    latest = std::move(*document);
  }
  if (latest->expires <= utc) {
    return fail(Errc::refused, "trust document " + std::to_string(latest->version) + " expired at " +
                                   to_rfc3339(latest->expires) + ": renew it with 'rivulet trust renew'");
  }
  return *latest;
}

std::vector<SignedTrust> trust_chain_from(const std::vector<SignedTrust>& documents,
                                          std::uint64_t from_version) {
  RIVULET_ASSERT(!documents.empty());
  std::vector<SignedTrust> chain;
  std::optional<PublicKey> root;
  for (const SignedTrust& link : documents) {
    const auto document = decode_trust(link.payload);
    RIVULET_ASSERT(document.has_value());
    const bool changes_root = root && document->root != *root;
    root = document->root;
    if (&link == &documents.back() || (changes_root && document->version >= from_version))
      chain.push_back(link);
  }
  return chain;
}

}  // namespace rivulet
