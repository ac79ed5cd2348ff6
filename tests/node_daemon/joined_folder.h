#pragma once

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "models/package/snapshot.h"
#include "models/runtime/engine_choice.h"
#include "models/runtime/release_model.h"
#include "node/core/records.h"
#include "node/daemon/folder.h"
#include "protocol/content.h"
#include "protocol/envelope.h"
#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"
#include "tests/catch.h"
#include "tests/node_daemon/models.h"

namespace rivulet::node {

/// A folder as a join leaves it, of a fleet whose coordinator is nowhere.
inline void make_joined_folder(const std::filesystem::path& folder) {
  const FolderPaths paths(folder);
  const SecretKey root = SecretKey::generate(), coordinator = SecretKey::generate();
  REQUIRE(SecretKey::generate().save(paths.key_file));
  TrustDocument document;
  document.name = "test";
  document.fleet.bytes[0] = std::byte{7};
  document.created = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  document.expires = document.created + std::chrono::hours(24);
  document.root = root.public_key();
  document.coordinator = coordinator.public_key();
  document.release_keys = {root.public_key()};
  std::filesystem::create_directory(paths.store);
  {
    const auto store = open_rocksdb_store(paths.store, store_families());
    REQUIRE(store);
    REQUIRE((*store)->commit({record_of(document)}, Durability::synced));
  }
  NodeConfig config;
  config.coordinator = {"127.0.0.1", 1};  // Nobody listens there.
  config.fleet = document.fleet;
  config.root = document.root;
  REQUIRE(write_file_durably(paths.token_file, bytes_of(std::string(64, 'a') + "\n")));
  REQUIRE(write_file_durably(paths.config_file, bytes_of(to_toml(config))));
}

/// A version of a softmax regression of two numbers that answers class "1" to whatever comes.
struct InstalledVersion {
  Release release;
  VersionManifest manifest;
  std::vector<float> weights;
};

/// Makes it what the joined folder serves, in the variant "int8" whose activation ranges are left to nodes.
inline InstalledVersion install_version(const std::filesystem::path& folder) {
  const FolderPaths paths(folder);
  InstalledVersion version{softmax_release(2, 2), {}, {}};
  Release& release = version.release;
  version.weights = constant_weights(release, 1, 3);
  const std::vector<float> first(release.layout.size(), 0.0F);
  std::filesystem::create_directory(paths.blobs);
  const auto blobs = open_file_blob_store(paths.blobs, {});
  REQUIRE(blobs);
  const auto put = [&](ByteSpan bytes) {
    const ContentId id = content_id_of(bytes);
    REQUIRE((*blobs)->put(id, bytes));
    return id;
  };
  release.fleet.bytes[0] = std::byte{7};
  release.snapshot = SnapshotForm::fp32;
  release.initial_weights = put(std::as_bytes(std::span(first)));
  release.initial_weights_hash = weights_hash_of(first);
  release.recipes = {"fp32", "int8"};
  release.created = UtcTime(std::chrono::seconds(1'700'000'000));
  release.limits = {
      .max_distance = 100, .min_interval = {}, .expires = release.created + std::chrono::years(50)};
  const SecretKey key = SecretKey::generate();
  const Bytes snapshot = encode_snapshot(SnapshotForm::fp32, release.layout, version.weights).value();
  const SnapshotForm form = variant_form("int8", SnapshotForm::fp32);
  const Bytes coded = encode_snapshot(form, release.layout, version.weights).value();
  const auto served = decode_snapshot(form, release.layout, coded).value();

  VersionManifest& manifest = version.manifest;
  manifest.fleet = release.fleet;
  manifest.manifest_version = manifest.version = 1;
  manifest.release = release_id(encode(release));
  manifest.release_content = put(encode(seal(key, Context::release, encode(release))));
  manifest.created = release.created;
  manifest.form = SnapshotForm::fp32;
  manifest.snapshot = put(snapshot);
  manifest.snapshot_bytes = snapshot.size();
  manifest.weights_hash = weights_hash_of(version.weights);
  VariantInfo variant;
  variant.name = "int8";
  variant.content = content_id_of(coded);
  variant.bytes = coded.size();
  variant.known_outputs = reference_answers(inference_spec(release), served, release.known_inputs).value();
  variant.tolerance = 1e-3F;
  variant.own_ranges = true;
  manifest.variants = {variant};

  Serving serving;
  serving.active = Held{manifest, "int8"};
  const KnownRelease known{.content = manifest.release_content,
                           .signer = key.public_key(),
                           .expires = release.limits.expires,
                           .epoch = 0,
                           .recipes = release.recipes,
                           .initial_weights = release.initial_weights,
                           .fp32_bytes = snapshot.size(),
                           .int8_bytes = coded.size()};
  const auto store = open_rocksdb_store(paths.store, store_families());
  REQUIRE(store);
  REQUIRE((*store)->commit({active_record(serving), release_record(manifest.release, known),
                            content_record(manifest.release_content), content_record(release.initial_weights),
                            content_record(manifest.snapshot)},
                           Durability::synced));
  return version;
}

}  // namespace rivulet::node
