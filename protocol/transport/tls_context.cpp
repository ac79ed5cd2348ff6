#include "protocol/transport/tls_context.h"

#include <openssl/ssl.h>

#include <string>

#include "protocol/transport/openssl_error.h"

namespace rivulet {
namespace {

/// Peers need a few hundred bytes; OpenSSL's default of 100 KiB would be memory for strangers.
constexpr long certificate_bytes_max = 4096;

/// ALPN's wire form: a length byte before the name.
constexpr std::string_view alpn_wire = "\x09rivulet/1";
static_assert(alpn_wire.substr(1) == alpn_name && alpn_wire[0] == alpn_name.size());
constexpr unsigned int alpn_wire_bytes = alpn_wire.size();

const unsigned char* alpn_wire_data() { return reinterpret_cast<const unsigned char*>(alpn_wire.data()); }

int select_alpn(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* offered,
                unsigned int offered_length, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_length, alpn_wire_data(), alpn_wire_bytes, offered,
                            offered_length) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

Result<PublicKey> key_of(X509* certificate) {
  EVP_PKEY* const key = X509_get0_pubkey(certificate);
  PublicKey result;
  std::size_t size = result.bytes.size();
  if (key == nullptr || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 ||
      EVP_PKEY_get_raw_public_key(key, reinterpret_cast<unsigned char*>(result.bytes.data()), &size) != 1 ||
      size != result.bytes.size()) {
    return fail(Errc::refused, "the peer's certificate has no Ed25519 key");
  }
  return result;
}

/// Replaces OpenSSL's search for a chain of authorities: we have none. That the peer owns the key is proven
/// by the handshake itself (CertificateVerify, RFC 8446 section 4.4.3).
int accept_one_key(X509_STORE_CTX* verification, void*) {
  X509* const certificate = X509_STORE_CTX_get0_cert(verification);
  const STACK_OF(X509)* const sent = X509_STORE_CTX_get0_untrusted(verification);
  const bool alone = certificate != nullptr && sent != nullptr && sk_X509_num(sent) == 1;
  const bool self_signed =
      alone && X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
  if (!self_signed || !key_of(certificate)) {
    X509_STORE_CTX_set_error(verification, X509_V_ERR_CERT_REJECTED);
    return 0;
  }
  X509_STORE_CTX_set_error(verification, X509_V_OK);
  return 1;
}

bool set_rules(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // Idle connections give their buffers back; a write goes record by record, and may be retried from a buffer
  // that has moved meanwhile, since the bytes are the same.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_max_cert_list(context, certificate_bytes_max);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(context, accept_one_key, nullptr);
  SSL_CTX_set_alpn_select_cb(context, select_alpn, nullptr);
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_num_tickets(context, 0) == 1 && SSL_CTX_set_max_early_data(context, 0) == 1 &&
         SSL_CTX_set_recv_max_early_data(context, 0) == 1 &&
         SSL_CTX_set_ciphersuites(
             context, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384") == 1 &&
         SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1 &&
         SSL_CTX_set1_sigalgs_list(context, "ed25519") == 1 &&
         SSL_CTX_set_alpn_protos(context, alpn_wire_data(), alpn_wire_bytes) == 0;  // Here 0 is success.
}

}  // namespace

void TlsContext::Free::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }

Result<TlsContext> TlsContext::make(const TlsIdentity& identity) {
  TlsContext context(SSL_CTX_new(TLS_method()));
  if (!context.context_ || !set_rules(context.get()) ||
      SSL_CTX_use_certificate(context.get(), identity.certificate()) != 1 ||
      SSL_CTX_use_PrivateKey(context.get(), identity.private_key()) != 1) {
    return fail(Errc::internal, "cannot set up TLS: " + take_openssl_reason());
  }
  return context;
}

Result<PublicKey> verified_peer_key(const ssl_st* tls) {
  const unsigned char* name = nullptr;
  unsigned int length = 0;
  SSL_get0_alpn_selected(tls, &name, &length);
  if (std::string_view(reinterpret_cast<const char*>(name), length) != alpn_name) {
    return fail(Errc::refused, "the peer does not speak " + std::string(alpn_name) + " (ALPN)");
  }
  X509* const certificate = SSL_get0_peer_certificate(tls);
  if (certificate == nullptr || SSL_get_verify_result(tls) != X509_V_OK) {
    return fail(Errc::refused, "the peer showed no certificate");
  }
  return key_of(certificate);
}

}  // namespace rivulet
