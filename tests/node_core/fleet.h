#pragma once

#include <optional>
#include <string>

#include "models/package/release.h"
#include "models/package/version.h"
#include "protocol/envelope.h"
#include "protocol/keys.h"
#include "protocol/message.h"
#include "protocol/trust.h"

namespace rivulet::node::testing {

const UtcTime today = UtcTime(std::chrono::seconds(1'800'000'000));

SecretKey key_of(int number);
TaskId task_id(int number);
ContentId content_of(int number);

struct Model {
  Release release;
  Bytes bytes;  ///< The signed release as content.
  ContentId content;
  ReleaseId id;
};

/// A fleet's keys, and what its people and its coordinator sign with them. A model has 15 parameters:
/// four inputs, three classes. A snapshot of it has 60 bytes in fp32 and 36 in int8: three scales of 4
/// bytes, twelve entries, and a bias of 12 bytes.
struct Fleet {
  SecretKey root = key_of(1);
  SecretKey release_key = key_of(2);
  SecretKey coordinator = key_of(3);
  SecretKey node = key_of(4);
  FleetId id;

  static constexpr std::uint64_t fp32_bytes = 60;
  static constexpr std::uint64_t int8_bytes = 30;

  Fleet();
  [[nodiscard]] TrustDocument document(std::uint64_t version = 1) const;
  [[nodiscard]] message::TrustChain chain(std::uint64_t version = 1) const;
  [[nodiscard]] message::Welcome welcome(UtcTime utc = today) const;

  [[nodiscard]] Release release(std::uint64_t epoch = 1) const;
  [[nodiscard]] Model model(const Release& release, const SecretKey& signer) const;
  [[nodiscard]] Model model(std::uint64_t epoch = 1) const { return model(release(epoch), release_key); }

  /// Contents are numbered 100 * version: snapshot, + 1: int8, + 2: fp32.
  [[nodiscard]] VersionManifest manifest(const Model& model, std::uint64_t number,
                                         VersionNumber version) const;
  [[nodiscard]] CandidateManifest candidate(const VersionManifest& parent, RoundNumber round) const;
  [[nodiscard]] Envelope sealed(const VersionManifest& manifest) const;
  [[nodiscard]] Envelope sealed(const CandidateManifest& manifest) const;
  [[nodiscard]] message::Task training(int number, const VersionManifest& base) const;
  [[nodiscard]] message::Task evaluation(int number, const VersionManifest& base) const;
};

}  // namespace rivulet::node::testing
