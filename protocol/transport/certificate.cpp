#include "protocol/transport/certificate.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "protocol/assert.h"
#include "protocol/transport/openssl_error.h"

namespace rivulet {
namespace {

constexpr std::size_t name_digits = 16;

bool fill(X509* certificate, EVP_PKEY* key, const std::string& common_name) {
  X509_NAME* const name = X509_get_subject_name(certificate);
  return X509_set_version(certificate, X509_VERSION_3) == 1 &&
         ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
         ASN1_TIME_set_string_X509(X509_getm_notBefore(certificate), "19700101000000Z") == 1 &&
         ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate), "99991231235959Z") == 1 &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                    reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                                    0) == 1 &&
         X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1 &&
         X509_sign(certificate, key, nullptr) > 0;  // Ed25519 has its hash built in.
}

}  // namespace

void TlsIdentity::Free::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }
void TlsIdentity::Free::operator()(x509_st* certificate) const { X509_free(certificate); }

Result<TlsIdentity> TlsIdentity::make(const SecretKey& key) {
  const auto seed = key.seed();
  TlsIdentity identity;
  identity.public_key_ = key.public_key();
  identity.key_.reset(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(seed.data()), seed.size()));
  identity.certificate_.reset(X509_new());
  const std::string common_name = key.public_key().hex().substr(0, name_digits);
  if (!identity.key_ || !identity.certificate_ ||
      !fill(identity.certificate_.get(), identity.key_.get(), common_name)) {
    return fail(Errc::internal, "cannot make the TLS certificate: " + take_openssl_reason());
  }
  return identity;
}

Bytes TlsIdentity::der() const {
  unsigned char* encoded = nullptr;
  const int size = i2d_X509(certificate_.get(), &encoded);
  RIVULET_ASSERT(size > 0);
  const Bytes der = copy_of(std::as_bytes(std::span(encoded, static_cast<std::size_t>(size))));
  OPENSSL_free(encoded);
  return der;
}

}  // namespace rivulet
