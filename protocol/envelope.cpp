#include "protocol/envelope.h"

#include "protocol/payload.h"
#include "protocol/schema.capnp.h"

namespace rivulet {
namespace {

Bytes signed_bytes(Context context, ByteSpan payload) {
  const ByteSpan text = bytes_of(context_string(context));
  Bytes message;
  message.reserve(text.size() + 1 + payload.size());
  message.insert(message.end(), text.begin(), text.end());
  message.push_back(std::byte{0});
  message.insert(message.end(), payload.begin(), payload.end());
  return message;
}

}  // namespace

std::string_view context_string(Context context) {
  switch (context) {
    case Context::trust: return "rivulet.trust.v1";
    case Context::release: return "rivulet.release.v1";
    case Context::version: return "rivulet.version.v1";
    case Context::candidate: return "rivulet.candidate.v1";
    case Context::update: return "rivulet.update.v1";
    case Context::evaluation: return "rivulet.evaluation.v1";
    case Context::time: return "rivulet.time.v1";
  }
  return "";
}

Signature sign_payload(const SecretKey& key, Context context, ByteSpan payload) {
  return key.sign(signed_bytes(context, payload));
}

bool verify_payload(const PublicKey& key, Context context, ByteSpan payload, const Signature& signature) {
  return verify(key, signed_bytes(context, payload), signature);
}

Envelope seal(const SecretKey& key, Context context, Bytes payload) {
  const Signature signature = sign_payload(key, context, payload);
  return {std::move(payload), signature};
}

Status verify_envelope(const PublicKey& key, Context context, const Envelope& envelope) {
  if (verify_payload(key, context, envelope.payload, envelope.signature)) return {};
  return fail(Errc::refused, "the signature for " + std::string(context_string(context)) + " is not by key " +
                                 key.hex().substr(0, 12));
}

Bytes encode(const Envelope& envelope) {
  capnp::MallocMessageBuilder builder(
      static_cast<unsigned>(envelope.payload.size() / sizeof(capnp::word) + 32));
  auto out = builder.initRoot<wire::Envelope>();
  out.setPayload(payload::data(envelope.payload));
  out.setSignature(payload::data(envelope.signature));
  return payload::to_bytes(builder);
}

Result<Envelope> decode_envelope(ByteSpan bytes) {
  return payload::read<wire::Envelope>(bytes, [](wire::Envelope::Reader in) -> Result<Envelope> {
    Envelope envelope;
    envelope.payload = copy_of(payload::span(in.getPayload()));
    if (auto status = payload::read_id(in.getSignature(), envelope.signature, "signature"); !status) {
      return std::unexpected(status.error());
    }
    return envelope;
  });
}

}  // namespace rivulet
