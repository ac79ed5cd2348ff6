#pragma once

#include <string>
#include <string_view>

#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/now.h"
#include "protocol/result.h"

namespace rivulet {

/// What a new node needs to join a fleet: where the coordinator is, whom to believe, and a secret
/// that the coordinator knows by its hash alone.
struct JoinToken {
  std::string address;  ///< HOST:PORT
  PublicKey root;
  FleetId fleet;
  JoinSecret secret;
  UtcTime expires;

  bool operator==(const JoinToken&) const = default;
};

/// "rivulet-" and Base64url of: 1 (u8), root, fleet, secret, expires (i64 LE), address, and the first
/// four bytes of the SHA-256 of all that, so that a token that was cut short is told from a false one.
std::string to_text(const JoinToken& token);
/// @return invalid, with what is wrong with `text`.
Result<JoinToken> parse_token(std::string_view text);

}  // namespace rivulet
