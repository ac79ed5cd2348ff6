#include "tests/node_core/fleet.h"

#include "protocol/content.h"
#include "protocol/documents.h"

namespace rivulet::node::testing {

using namespace std::chrono_literals;

SecretKey key_of(int number) {
  std::array<std::byte, 32> seed{};
  seed[0] = static_cast<std::byte>(number);
  return SecretKey::from_seed(seed);
}

TaskId task_id(int number) {
  TaskId id;
  id.bytes[0] = static_cast<std::byte>(number);
  id.bytes[15] = std::byte{1};
  return id;
}

ContentId content_of(int number) {
  ContentId id;
  id.bytes[0] = static_cast<std::byte>(number & 0xff);
  id.bytes[1] = static_cast<std::byte>(number >> 8);
  id.bytes[31] = std::byte{2};
  return id;
}

Fleet::Fleet() { id.bytes[0] = std::byte{7}; }

TrustDocument Fleet::document(std::uint64_t version) const {
  TrustDocument document;
  document.fleet = id;
  document.name = "river";
  document.version = version;
  document.created = today - 24h;
  document.expires = today + 24h * 30;
  document.root = root.public_key();
  document.release_keys = {release_key.public_key()};
  document.coordinator = coordinator.public_key();
  return document;
}

message::TrustChain Fleet::chain(std::uint64_t version) const {
  return {{sign_trust(document(version), root)}};
}

message::Welcome Fleet::welcome(UtcTime utc) const {
  return {.protocol = 1,
          .time = seal(coordinator, Context::time, encode(SignedTime{id, utc})),
          .heartbeat_seconds = 60};
}

Release Fleet::release(std::uint64_t epoch) const {
  Release release;
  release.fleet = id;
  release.name = "digits";
  release.architecture = {.kind = "mlp", .hidden = {}, .input_shape = {4}, .outputs = 3};
  release.layout.tensors = {{"0.weight", {3, 4}, TensorKind::parameter},
                            {"0.bias", {3}, TensorKind::parameter}};
  release.classes = {"a", "b", "c"};
  release.initial_weights = content_of(1);
  release.recipes = {"fp32", "int8"};
  release.known_inputs = {0, 1, 2, 3};
  release.limits = {.max_distance = 10, .min_interval = 0s, .expires = today + 24h * 365};
  release.created = today - 24h;
  release.epoch = epoch;
  return release;
}

Model Fleet::model(const Release& release, const SecretKey& signer) const {
  Model model{.release = release, .bytes = {}, .content = {}, .id = {}};
  const Bytes payload = encode(release);
  model.id = release_id(payload);
  model.bytes = encode(seal(signer, Context::release, payload));
  model.content = content_id_of(model.bytes);
  return model;
}

VersionManifest Fleet::manifest(const Model& model, std::uint64_t number, VersionNumber version) const {
  const int first = static_cast<int>(100 * version);
  VersionManifest manifest;
  manifest.fleet = id;
  manifest.manifest_version = number;
  manifest.version = version;
  manifest.release = model.id;
  manifest.release_content = model.content;
  manifest.parent = version - 1;
  manifest.round = version - 1;
  manifest.created = today;
  manifest.form = SnapshotForm::int8;
  manifest.snapshot = content_of(first);
  manifest.snapshot_bytes = int8_bytes;
  manifest.weights_hash.bytes[0] = static_cast<std::byte>(version);
  manifest.variants = {
      {"int8", content_of(first + 1), int8_bytes, {0.5F, 0.25F, 0.25F}, 0.01F, std::nullopt, std::nullopt},
      {"fp32", content_of(first + 2), fp32_bytes, {0.5F, 0.25F, 0.25F}, 0.01F, std::nullopt, std::nullopt}};
  manifest.epoch = model.release.epoch;
  return manifest;
}

CandidateManifest Fleet::candidate(const VersionManifest& parent, RoundNumber round) const {
  CandidateManifest candidate;
  candidate.fleet = id;
  candidate.round = round;
  candidate.release = parent.release;
  candidate.release_content = parent.release_content;
  candidate.parent = parent.version;
  candidate.parent_weights_hash = parent.weights_hash;
  candidate.snapshot = content_of(static_cast<int>(5'000 + round));
  candidate.snapshot_bytes = int8_bytes;
  candidate.weights_hash.bytes[1] = static_cast<std::byte>(round);
  return candidate;
}

Envelope Fleet::sealed(const VersionManifest& manifest) const {
  return seal(coordinator, Context::version, encode(manifest));
}

Envelope Fleet::sealed(const CandidateManifest& manifest) const {
  return seal(coordinator, Context::candidate, encode(manifest));
}

message::Task Fleet::training(int number, const VersionManifest& base) const {
  message::Task task;
  task.id = task_id(number);
  task.type = message::TaskType::train;
  task.round = static_cast<RoundNumber>(number);
  task.remaining_ms = 600'000;
  task.base = sealed(base);
  task.training.codec = 1;
  return task;
}

message::Task Fleet::evaluation(int number, const VersionManifest& base) const {
  message::Task task = training(number, base);
  task.type = message::TaskType::evaluate;
  task.candidate = sealed(candidate(base, task.round));
  return task;
}

}  // namespace rivulet::node::testing
