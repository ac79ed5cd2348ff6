#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <string_view>

#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/result.h"

namespace rivulet {

/// An Ed25519 signature (RFC 8032).
using Signature = FixedId<64, struct SignatureTag>;

/// An Ed25519 key pair (RFC 8032, libsodium). The secret half lies in guarded memory that is wiped
/// on destruction; it is moved, never copied, and never printed.
class SecretKey {
 public:
  /// From the operating system's random device. Only shells call it, no decision core.
  static SecretKey generate();
  /// @param seed the 32 bytes that RFC 8032 calls the private key.
  static SecretKey from_seed(std::span<const std::byte, 32> seed);

  /// Reads a key file: 64 hexadecimal digits of the seed and a line feed.
  /// @return permission if group or others may touch it; not_found; corrupt.
  static Result<SecretKey> load(const std::filesystem::path& file);
  /// Writes a new key file with mode 0600, durably: after a crash it is whole, or not there. FILE.new beside
  /// it is used on the way. @return conflict if `file` exists; storage, storage_full.
  Status save(const std::filesystem::path& file) const;

  [[nodiscard]] const PublicKey& public_key() const { return public_key_; }
  [[nodiscard]] Signature sign(ByteSpan message) const;
  /// The 32-byte seed, for the TLS library, which needs the key in its own form.
  [[nodiscard]] std::span<const std::byte, 32> seed() const;

 private:
  struct Wipe {
    void operator()(std::byte* memory) const;
  };
  explicit SecretKey(std::unique_ptr<std::byte[], Wipe> secret);

  std::unique_ptr<std::byte[], Wipe> secret_;  // libsodium's 64-byte form: seed, public key
  PublicKey public_key_;
};

/// @return false for a wrong signature, and for keys or signatures that are not canonical.
bool verify(const PublicKey& key, ByteSpan message, const Signature& signature);

/// `size` bytes from the operating system's random device. Only shells call it.
Bytes random_bytes(std::size_t size);

}  // namespace rivulet
