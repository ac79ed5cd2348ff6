#pragma once

#include <cstdint>
#include <memory>
#include <string>

struct evp_pkey_st;
struct x509_st;

namespace rivulet {

/// A key and a certificate made with OpenSSL alone, in ways that ours never are.
struct RawCertificate {
  std::shared_ptr<evp_pkey_st> key;
  std::shared_ptr<x509_st> certificate;
};
enum class RawKind { ed25519, ecdsa, rsa };
/// @param issuer another name than the subject's if not empty, as if someone else had signed it.
RawCertificate make_raw_certificate(RawKind kind, const std::string& issuer = "");

struct RawOptions {
  RawCertificate own;    ///< none if empty
  RawCertificate extra;  ///< sent after `own`, if not empty
  bool tls12_only = false;
  std::string alpn = "rivulet/1";  ///< none if empty
};

struct RawOutcome {
  bool shaken = false;    ///< its own side of the handshake succeeded
  bool accepted = false;  ///< and then a byte came
  std::string reason;
};

/// Connects to 127.0.0.1 with OpenSSL alone and waits for a byte. Blocks: run it in its own thread.
RawOutcome raw_client(std::uint16_t port, const RawOptions& options);
/// Answers one connection on `listening`, a listening socket, and sends a byte. Blocks.
RawOutcome raw_server(int listening, const RawOptions& options);

}  // namespace rivulet
