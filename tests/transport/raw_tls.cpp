#include "tests/transport/raw_tls.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/assert.h"
#include "protocol/transport/openssl_error.h"

namespace rivulet {
namespace {

void add_name(X509_NAME* name, const std::string& text) {
  RIVULET_ASSERT(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                            reinterpret_cast<const unsigned char*>(text.c_str()), -1, -1,
                                            0) == 1);
}

EVP_PKEY* make_key(RawKind kind) {
  switch (kind) {
    case RawKind::ed25519: return EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
    case RawKind::ecdsa: return EVP_EC_gen("P-256");
    case RawKind::rsa: return EVP_RSA_gen(2048);
  }
  return nullptr;
}

int accept_anything(X509_STORE_CTX*, void*) { return 1; }

std::shared_ptr<SSL_CTX> make_context(const RawOptions& options) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_method()), SSL_CTX_free);
  SSL_CTX_set_cert_verify_callback(context.get(), accept_anything, nullptr);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (options.tls12_only) SSL_CTX_set_max_proto_version(context.get(), TLS1_2_VERSION);
  if (options.own.key) {
    RIVULET_ASSERT(SSL_CTX_use_certificate(context.get(), options.own.certificate.get()) == 1 &&
                   SSL_CTX_use_PrivateKey(context.get(), options.own.key.get()) == 1);
  }
  if (options.extra.certificate) {
    RIVULET_ASSERT(SSL_CTX_add1_chain_cert(context.get(), options.extra.certificate.get()) == 1);
  }
  if (!options.alpn.empty()) {
    const std::string wire = static_cast<char>(options.alpn.size()) + options.alpn;
    SSL_CTX_set_alpn_protos(context.get(), reinterpret_cast<const unsigned char*>(wire.data()),
                            static_cast<unsigned>(wire.size()));
  }
  return context;
}

/// OpenSSL's own sockets raise SIGPIPE, which is for the thread that wrote: this one does without.
void block_sigpipe() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGPIPE);
  RIVULET_ASSERT(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0);
}

RawOutcome converse(int socket, const RawOptions& options, bool as_server) {
  const auto context = make_context(options);
  const std::unique_ptr<SSL, decltype(&SSL_free)> tls(SSL_new(context.get()), SSL_free);
  SSL_set_fd(tls.get(), socket);
  RawOutcome outcome;
  ERR_clear_error();
  outcome.shaken = (as_server ? SSL_accept(tls.get()) : SSL_connect(tls.get())) == 1;
  char byte = 'x';
  if (outcome.shaken) {
    const int moved = as_server ? SSL_write(tls.get(), &byte, 1) : SSL_read(tls.get(), &byte, 1);
    outcome.accepted = moved == 1;
    // A server learns what the client thinks of it when it reads.
    if (as_server) outcome.accepted = SSL_read(tls.get(), &byte, 1) == 1;
  }
  outcome.reason = take_openssl_reason();
  ::close(socket);
  return outcome;
}

}  // namespace

RawCertificate make_raw_certificate(RawKind kind, const std::string& issuer) {
  RawCertificate made{{make_key(kind), EVP_PKEY_free}, {X509_new(), X509_free}};
  X509* const certificate = made.certificate.get();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  add_name(X509_get_subject_name(certificate), "raw");
  add_name(X509_get_issuer_name(certificate), issuer.empty() ? "raw" : issuer);
  X509_set_pubkey(certificate, made.key.get());
  const EVP_MD* const digest = kind == RawKind::ed25519 ? nullptr : EVP_sha256();
  RIVULET_ASSERT(X509_sign(certificate, made.key.get(), digest) > 0);
  return made;
}

RawOutcome raw_client(std::uint16_t port, const RawOptions& options) {
  block_sigpipe();
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  RIVULET_ASSERT(::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return converse(socket, options, false);
}

RawOutcome raw_server(int listening, const RawOptions& options) {
  block_sigpipe();
  const int socket = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
  RIVULET_ASSERT(socket >= 0);
  return converse(socket, options, true);
}

}  // namespace rivulet
