#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "models/package/release.h"
#include "models/package/snapshot.h"
#include "models/package/version.h"
#include "protocol/assert.h"
#include "protocol/content.h"
#include "protocol/envelope.h"
#include "storage/memory_disk.h"

/// A model small enough for hand arithmetic, and a place for its contents: for the tests of what node and
/// coordinator do with models.
namespace rivulet::testing {

/// A blob store in memory.
struct Blobs {
  MemoryDisk disk;
  std::unique_ptr<BlobStore> store = make_memory_blob_store(disk);

  ContentId put(ByteSpan bytes) {
    const ContentId id = content_id_of(bytes);
    RIVULET_ASSERT(store->put(id, bytes));
    return id;
  }
  ContentId put_floats(const std::vector<float>& values) { return put(std::as_bytes(std::span(values))); }
  ContentId put_hex(const std::string& hex) { return put(from_hex(hex).value()); }
  [[nodiscard]] std::vector<ContentId> contents() const {
    std::vector<ContentId> ids;
    for (const BlobInfo& blob : store->list()) ids.push_back(blob.id);
    return ids;
  }
};

/// Some key, the same in every run.
inline SecretKey key_of_byte(unsigned char byte) {
  std::array<std::byte, 32> seed;
  seed.fill(std::byte{byte});
  return SecretKey::from_seed(seed);
}

/// A softmax regression with 2 inputs and 2 classes: W [2, 2], b [2], so 6 parameters; class c has the logit
/// W[c] x + b[c]. Its w_0, in `blobs`, is all zeros unless the test says otherwise.
inline Release small_release(Blobs& blobs, const std::vector<float>& w0 = std::vector<float>(6)) {
  using namespace std::chrono_literals;
  Release release;
  release.fleet.bytes[0] = std::byte{1};
  release.name = "small";
  release.architecture.kind = "mlp";
  release.architecture.input_shape = {2};
  release.architecture.outputs = 2;
  release.layout.tensors = {{"0.weight", {2, 2}, TensorKind::parameter},
                            {"0.bias", {2}, TensorKind::parameter}};
  release.classes = {"no", "yes"};
  release.snapshot = SnapshotForm::fp32;
  release.initial_weights = blobs.put_floats(w0);
  release.initial_weights_hash = weights_hash_of(w0);
  release.recipes = {"fp32", "int8"};
  release.known_inputs = {1, 0};
  release.created = UtcTime(1'800'000'000s);
  release.limits = {.max_distance = 100, .min_interval = 0s, .expires = release.created + 24h};
  return release;
}

/// The signed release as content, as an import stores it.
inline ContentId put_release(Blobs& blobs, const Release& release) {
  return blobs.put(encode(seal(key_of_byte(3), Context::release, encode(release))));
}

/// The manifest of a version with these weights as its snapshot, whole but for its variants.
inline VersionManifest manifest_of(Blobs& blobs, const Release& release, const std::vector<float>& weights) {
  const Bytes snapshot = encode_snapshot(release.snapshot, release.layout, weights).value();
  VersionManifest manifest;
  manifest.fleet = release.fleet;
  manifest.manifest_version = 1;
  manifest.version = 1;
  manifest.release = release_id(encode(release));
  manifest.release_content = put_release(blobs, release);
  manifest.created = release.created;
  manifest.form = release.snapshot;
  manifest.snapshot = blobs.put(snapshot);
  manifest.snapshot_bytes = snapshot.size();
  manifest.weights_hash =
      weights_hash_of(decode_snapshot(release.snapshot, release.layout, snapshot).value());
  return manifest;
}

}  // namespace rivulet::testing
