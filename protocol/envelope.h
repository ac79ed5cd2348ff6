#pragma once

#include <string_view>

#include "protocol/bytes.h"
#include "protocol/keys.h"
#include "protocol/result.h"

namespace rivulet {

/// What a signature is for; none can stand for another.
enum class Context { trust, release, version, candidate, update, evaluation, time };

/// The text that is signed before the payload, e.g. "rivulet.update.v1".
std::string_view context_string(Context context);

/// Signed bytes. The signature covers context string, a zero byte, payload.
struct Envelope {
  Bytes payload;
  Signature signature;

  bool operator==(const Envelope&) const = default;
  [[nodiscard]] bool empty() const { return payload.empty(); }
};

Signature sign_payload(const SecretKey& key, Context context, ByteSpan payload);
bool verify_payload(const PublicKey& key, Context context, ByteSpan payload, const Signature& signature);

Envelope seal(const SecretKey& key, Context context, Bytes payload);
/// @return refused if `key` did not sign this payload in this context.
Status verify_envelope(const PublicKey& key, Context context, const Envelope& envelope);

/// An envelope as content of its own, e.g. a signed release: wire::Envelope, one segment.
Bytes encode(const Envelope& envelope);
/// @param bytes untrusted. @return corrupt.
Result<Envelope> decode_envelope(ByteSpan bytes);

}  // namespace rivulet
