#include "protocol/sha256.h"

#include <openssl/evp.h>

#include "protocol/assert.h"

namespace rivulet {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() { restart(); }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  void restart() { RIVULET_ASSERT(EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

Sha256& Sha256::update(ByteSpan bytes) {
  RIVULET_ASSERT(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
  return *this;
}

Digest Sha256::finish() {
  Digest digest;
  auto* out = reinterpret_cast<unsigned char*>(digest.bytes.data());
  RIVULET_ASSERT(EVP_DigestFinal_ex(state_->context, out, nullptr) == 1);
  state_->restart();
  return digest;
}

Digest sha256(ByteSpan bytes) { return Sha256().update(bytes).finish(); }

}  // namespace rivulet
