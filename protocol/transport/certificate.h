#pragma once

#include <memory>

#include "protocol/keys.h"
#include "protocol/result.h"

struct evp_pkey_st;
struct x509_st;

namespace rivulet {

/// The Ed25519 key of a party in the form that TLS wants: the key, and a self-signed X.509 certificate of it
/// (RFC 8410). The certificate only carries the key: peers check that and nothing else, so its other fields
/// are fixed (serial 1, valid from 1970 to 9999, common name = the first 16 hex digits of the public key),
/// and the same key makes the same bytes.
class TlsIdentity {
 public:
  /// OpenSSL keeps its own copy of the seed and wipes it on destruction.
  /// @return internal if OpenSSL refuses, for example in a build without Ed25519.
  static Result<TlsIdentity> make(const SecretKey& key);

  [[nodiscard]] const PublicKey& public_key() const { return public_key_; }
  [[nodiscard]] evp_pkey_st* private_key() const { return key_.get(); }
  [[nodiscard]] x509_st* certificate() const { return certificate_.get(); }
  /// The certificate in DER.
  [[nodiscard]] Bytes der() const;

 private:
  struct Free {
    void operator()(evp_pkey_st* key) const;
    void operator()(x509_st* certificate) const;
  };
  TlsIdentity() = default;

  std::unique_ptr<evp_pkey_st, Free> key_;
  std::unique_ptr<x509_st, Free> certificate_;
  PublicKey public_key_;
};

}  // namespace rivulet
