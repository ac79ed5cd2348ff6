#pragma once

#include <memory>

#include "protocol/bytes.h"
#include "protocol/ids.h"

namespace rivulet {

/// SHA-256 (FIPS 180-4) over bytes that arrive in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  Sha256& update(ByteSpan bytes);
  /// The digest of all updates since construction or the last finish(); starts anew.
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest sha256(ByteSpan bytes);

}  // namespace rivulet
