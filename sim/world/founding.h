#pragma once

#include <chrono>
#include <span>
#include <string>

#include "coordinator/core/events.h"
#include "models/package/release.h"
#include "protocol/keys.h"
#include "protocol/token.h"
#include "protocol/trust.h"
#include "storage/blob_store.h"

namespace rivulet::sim {

/// The keys and documents that a virtual fleet begins with, all from one seed.
struct Founding {
  Founding(std::uint64_t seed, std::string name, std::chrono::days lifetime);

  SecretKey root, release, coordinator;
  TrustDocument trust;
  JoinToken token;
};

/// Signs a release with its first weights and stores all of it, as an import by the operator does; the
/// caller gives the event its request and says which samples the coordinator holds.
/// @param release whole but for its fleet and its w_0.
Result<coordinator::event::ImportRelease> make_import(Release release, std::span<const float> initial,
                                                      const Founding& founding, BlobStore& blobs);

}  // namespace rivulet::sim
