#pragma once

#include <optional>
#include <string>
#include <vector>

#include "protocol/ids.h"
#include "protocol/keys.h"
#include "protocol/now.h"
#include "protocol/result.h"

namespace rivulet {

/// Which keys speak for a fleet (after The Update Framework's root role).
struct TrustDocument {
  FleetId fleet;
  std::string name;
  std::uint64_t version = 1;
  UtcTime created;
  UtcTime expires;
  PublicKey root;
  std::vector<PublicKey> release_keys;
  PublicKey coordinator;

  bool operator==(const TrustDocument&) const = default;
};

struct SignedTrust {
  struct KeySignature {
    PublicKey key;
    Signature signature;
    bool operator==(const KeySignature&) const = default;
  };
  Bytes payload;
  std::vector<KeySignature> signatures;

  bool operator==(const SignedTrust&) const = default;
};

Bytes encode(const TrustDocument& document);
/// @param payload untrusted. @return corrupt.
Result<TrustDocument> decode_trust(ByteSpan payload);

/// @param former_root given when `document` changes the root: both roots sign.
SignedTrust sign_trust(const TrustDocument& document, const SecretKey& root,
                       const SecretKey* former_root = nullptr);

/// What a node knows about whom to trust, and how it learns more. Pure.
struct TrustAnchor {
  PublicKey root;                         ///< From the token, or the last accepted document.
  std::optional<TrustDocument> document;  ///< Nothing before the first contact.
};

/// Checks a chain of documents by rising version that starts at, goes through or begins before `anchor`,
/// and gives the last. What comes before the anchor (an older version, or before its root signed anything)
/// is passed over; from there on each must be signed by the root before it, one that names another root by
/// that one too; the same version must have the same content; the last must not be older than the anchor's,
/// must not have expired at `utc`, and must be of the anchor's fleet.
/// @return refused with the kind of attack or mistake in words. not_found if the last document is
/// signed by a root that the given chain does not lead to: ask for the whole chain.
Result<TrustDocument> follow_trust(const TrustAnchor& anchor, const std::vector<SignedTrust>& chain,
                                   UtcTime utc);

/// The answer to a request for the chain from a version on: of a fleet's documents, from the first on, those
/// of at least `from_version` that changed the root, and the last.
/// @param documents by rising version, each one that decode_trust accepts; at least one.
std::vector<SignedTrust> trust_chain_from(const std::vector<SignedTrust>& documents,
                                          std::uint64_t from_version);

}  // namespace rivulet
