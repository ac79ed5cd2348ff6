#include "sim/world/founding.h"

#include "coordinator/work/publication.h"
#include "models/package/snapshot.h"
#include "protocol/envelope.h"
#include "protocol/rng.h"
#include "sim/world/machine.h"

namespace rivulet::sim {
namespace {

SecretKey key_for(std::uint64_t seed) {
  std::array<std::byte, 32> bytes{};
  Rng rng(seed);
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
  return SecretKey::from_seed(bytes);
}

}  // namespace

Founding::Founding(std::uint64_t seed, std::string name, std::chrono::days lifetime)
    : root(key_for(derive_seed(seed, 2))),
      release(key_for(derive_seed(seed, 3))),
      coordinator(key_for(derive_seed(seed, 4))) {
  trust.fleet.bytes[0] = std::byte{1};
  trust.name = std::move(name);
  trust.created = world_epoch;
  trust.expires = world_epoch + lifetime;
  trust.root = root.public_key();
  trust.release_keys = {release.public_key()};
  trust.coordinator = coordinator.public_key();
  token = {.address = "virtual:1",
           .root = root.public_key(),
           .fleet = trust.fleet,
           .secret = {},
           .expires = world_epoch + std::chrono::days(30)};
  token.secret.bytes[0] = std::byte{7};
}

Result<coordinator::event::ImportRelease> make_import(Release release, std::span<const float> initial,
                                                      const Founding& founding, BlobStore& blobs) {
  const auto master = coordinator::store_weights(blobs, initial);
  if (!master) return std::unexpected(master.error());
  release.fleet = founding.trust.fleet;
  release.initial_weights = *master;
  release.initial_weights_hash = weights_hash_of(initial);
  if (const auto status = check(release); !status) return std::unexpected(status.error());
  const auto snapshot = encode_snapshot(release.snapshot, release.layout, initial);
  if (!snapshot) return std::unexpected(snapshot.error());
  const auto served = decode_snapshot(release.snapshot, release.layout, *snapshot);
  if (!served) return std::unexpected(served.error());

  const Envelope envelope = seal(founding.release, Context::release, encode(release));
  const Bytes envelope_bytes = encode(envelope);
  coordinator::event::ImportRelease event;
  event.release = envelope;
  event.release_content = content_id_of(envelope_bytes);
  event.snapshot = content_id_of(*snapshot);
  event.snapshot_bytes = snapshot->size();
  event.weights_hash = weights_hash_of(*served);
  event.master = *master;
  Status status = blobs.put(event.release_content, envelope_bytes);
  if (status) status = blobs.put(event.snapshot, *snapshot);
  if (!status) return std::unexpected(status.error());
  return event;
}

}  // namespace rivulet::sim
