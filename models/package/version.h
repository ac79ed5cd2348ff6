#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/snapshot.h"
#include "models/quantization/ranges.h"
#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/now.h"
#include "protocol/result.h"

namespace rivulet {

/// What a holder of the variant's weights needs to run them in int8, and what it must then answer.
struct Int8Kernels {
  ActivationRanges ranges;           ///< Of static int8; without any, dynamic int8 alone is right.
  std::vector<float> known_outputs;  ///< As VariantInfo::known_outputs, but answered in int8.
  float tolerance = 0.0F;            ///< Wider: backends round differently.

  bool operator==(const Int8Kernels&) const = default;
};

/// Flat tensors that were derived from w_t by one of the release's recipes, for inference only.
struct VariantInfo {
  std::string name;   ///< The recipe: "fp32" or "int8".
  ContentId content;  ///< A snapshot in that form.
  std::uint64_t bytes = 0;
  std::vector<float> known_outputs;  ///< The answers to the release's known inputs, [count * outputs].
  float tolerance = 0.0F;            ///< A node's answers differ from them by no more than this.
  /// Fraction in [0, 1] on a split that never gates: of static int8 if there is such.
  std::optional<double> accuracy;
  std::optional<Int8Kernels> int8_kernels;  ///< Absent: the weights run in float.
  std::uint64_t activation_bytes = 0;       ///< The most that one sample's tensors hold at once; 0: unknown.
  double microseconds = 0;                  ///< For one sample on VersionManifest::reference; 0: unknown.
  bool own_ranges = false;                  ///< Each node may find ranges on samples of its own.

  bool operator==(const VariantInfo&) const = default;
};

/// What the coordinator signs when it publishes a version, with the context rivulet.version.v1.
struct VersionManifest {
  struct Fallback {
    VersionNumber version = 0;
    Digest weights_hash;

    bool operator==(const Fallback&) const = default;
  };

  FleetId fleet;
  std::uint64_t manifest_version = 0;  ///< From 1; only rises within a fleet, gaps are normal.
  VersionNumber version = 0;           ///< From 1; falls after a roll-back.
  ReleaseId release;
  ContentId release_content;  ///< The signed release, as an envelope.
  VersionNumber parent = 0;   ///< 0: the version is the release's w_0.
  RoundNumber round = 0;      ///< That produced it; 0 for w_0.
  UtcTime created{};
  SnapshotForm form = SnapshotForm::int8;
  ContentId snapshot;
  std::uint64_t snapshot_bytes = 0;
  Digest weights_hash;  ///< weights_hash_of(w_t).
  std::vector<VariantInfo> variants;
  std::optional<Fallback> fallback;  ///< To what a node may return by itself.
  std::uint64_t epoch = 0;
  Digest audit_head;      ///< Anchors the audit log on every node.
  std::string reference;  ///< The processor that variants were timed on, by name; empty: they were not.

  bool operator==(const VersionManifest&) const = default;
};

/// A version to be, which evaluators score against its parent and nobody may serve. Signed with the
/// context rivulet.candidate.v1.
struct CandidateManifest {
  FleetId fleet;
  RoundNumber round = 0;
  ReleaseId release;
  ContentId release_content;
  VersionNumber parent = 0;
  Digest parent_weights_hash;
  SnapshotForm form = SnapshotForm::int8;
  ContentId snapshot;
  std::uint64_t snapshot_bytes = 0;
  Digest weights_hash;

  bool operator==(const CandidateManifest&) const = default;
};

/// How far answers in float may be from the known ones: on another processor or library they differ by
/// rounding alone. @param outputs the known ones: of values the tolerance is a part of the greatest, if that
/// is above 1.
float float_tolerance_of(TaskKind task, std::span<const float> outputs);
/// How far the answers of an int8 engine may be from those in float: backends round activations differently,
/// and a wrong one is far off. @param outputs the known ones: of values the tolerance is a part of the
/// greatest.
float int8_tolerance_of(TaskKind task, std::span<const float> outputs);

/// Whether the fields make sense together; the decoders have done it. @return invalid, unsupported.
Status check(const VersionManifest& manifest);
Status check(const CandidateManifest& manifest);

/// The bytes that are signed: a Cap'n Proto message of one segment, models/package/package.capnp.
Bytes encode(const VersionManifest& manifest);
Bytes encode(const CandidateManifest& manifest);

/// @param payload  untrusted. @return corrupt, too_large, unsupported.
Result<VersionManifest> decode_version(ByteSpan payload);
Result<CandidateManifest> decode_candidate(ByteSpan payload);

}  // namespace rivulet
