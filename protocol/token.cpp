#include "protocol/token.h"

#include <algorithm>

#include "protocol/sha256.h"

namespace rivulet {
namespace {

constexpr std::string_view prefix = "rivulet-";
constexpr std::byte token_version{1};
constexpr std::size_t checksum_bytes = 4;
constexpr std::size_t fixed_bytes = 1 + PublicKey::size + FleetId::size + 16 + 8;

void append(Bytes& out, ByteSpan bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

}  // namespace

std::string to_text(const JoinToken& token) {
  Bytes bytes{token_version};
  append(bytes, token.root.span());
  append(bytes, token.fleet.span());
  append(bytes, token.secret.span());
  append_le(bytes, static_cast<std::int64_t>(token.expires.time_since_epoch().count()));
  append(bytes, bytes_of(token.address));
  const Digest digest = sha256(bytes);
  append(bytes, digest.span().first(checksum_bytes));
  return std::string(prefix) + to_base64url(bytes);
}

Result<JoinToken> parse_token(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.remove_suffix(1);
  if (!text.starts_with(prefix)) {
    return fail(Errc::invalid, "a join token starts with '" + std::string(prefix) +
                                   "': copy it from 'rivulet token create'");
  }
  const auto decoded = from_base64url(text.substr(prefix.size()));
  if (!decoded || decoded->size() < fixed_bytes + checksum_bytes) {
    return fail(Errc::invalid, "the join token is cut short or has foreign characters");
  }
  const ByteSpan body = ByteSpan(*decoded).first(decoded->size() - checksum_bytes);
  const Digest digest = sha256(body);
  if (!std::ranges::equal(digest.span().first(checksum_bytes), ByteSpan(*decoded).last(checksum_bytes))) {
    return fail(Errc::invalid, "the join token was mistyped: its checksum is wrong");
  }
  if (body[0] != token_version) {
    return fail(Errc::unsupported, "the join token is of a newer form: update rivulet-node");
  }
  JoinToken token;
  std::size_t at = 1;
  const auto take = [&](auto& id) {
    std::memcpy(id.bytes.data(), body.data() + at, id.bytes.size());
    at += id.bytes.size();
  };
  take(token.root);
  take(token.fleet);
  take(token.secret);
  token.expires = UtcTime(std::chrono::milliseconds(load_le<std::int64_t>(body, at)));
  at += 8;
  token.address = text_of(body.subspan(at));
  return token;
}

}  // namespace rivulet
