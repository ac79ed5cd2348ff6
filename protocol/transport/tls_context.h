#pragma once

#include <memory>
#include <string_view>

#include "protocol/result.h"
#include "protocol/transport/certificate.h"

struct ssl_ctx_st;
struct ssl_st;

namespace rivulet {

/// The protocol's name in TLS (ALPN, RFC 7301); a peer that does not name it is refused.
inline constexpr std::string_view alpn_name = "rivulet/1";

/// The rules of our TLS, for either role: version 1.3 only; both sides show exactly one self-signed Ed25519
/// certificate, of which only the key counts; ALPN alpn_name; no early data, tickets, or session cache (so
/// nothing that is said can be replayed, and every connection proves its key). Who the peer's key belongs to
/// is for the session to judge. Thread-safe once made; streams share what they need of it, so it may go
/// first.
class TlsContext {
 public:
  /// @return internal if OpenSSL refuses a setting.
  static Result<TlsContext> make(const TlsIdentity& identity);

  [[nodiscard]] ssl_ctx_st* get() const { return context_.get(); }

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}

  std::unique_ptr<ssl_ctx_st, Free> context_;
};

/// What a finished handshake says about the peer. @return refused without a fitting certificate or ALPN.
Result<PublicKey> verified_peer_key(const ssl_st* tls);

}  // namespace rivulet
