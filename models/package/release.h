#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/layout.h"
#include "models/package/preprocessing.h"
#include "models/package/pruning.h"
#include "models/package/snapshot.h"
#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/now.h"
#include "protocol/result.h"

namespace rivulet {

/// What the coordinator's online key may do under a release, and how long.
struct ReleaseLimits {
  double max_distance = 0.0;  ///< L2 over the parameters between any version's w_t and w_0; positive.
  std::chrono::seconds min_interval{0};  ///< Between two versions.
  UtcTime expires{};

  bool operator==(const ReleaseLimits&) const = default;
};

/// The version that a release was made of, by distillation or by taking channels away.
struct Teacher {
  ReleaseId release;
  VersionNumber version = 0;  ///< Of that release; at least 1.

  bool operator==(const Teacher&) const = default;
};

/// What a human signs, with the release key: everything about a model but the weights that rounds
/// produce. The signature's context is rivulet.release.v1.
struct Release {
  FleetId fleet;
  std::string name;  ///< Of the model; the fleet's newest release of a name is the active one.
  Architecture architecture;
  ParameterLayout layout;
  TaskKind task = TaskKind::classification;
  std::vector<std::string> classes;  ///< One per output of a classification, else none.
  Preprocessing preprocessing;
  SnapshotForm snapshot = SnapshotForm::int8;
  ContentId initial_weights;         ///< w_0, as an fp32 snapshot.
  Digest initial_weights_hash;       ///< weights_hash_of(w_0).
  std::vector<std::string> recipes;  ///< The variants that may be derived: of "fp32", "int8".
  std::vector<float> known_inputs;   ///< Raw samples, [count * architecture.input_size()]; at least one.
  ReleaseLimits limits;
  UtcTime created{};
  std::uint64_t epoch = 0;  ///< Nodes refuse manifests of a lower one.
  /// The TorchScript file of an architecture "torchscript", else empty: the user's network without its
  /// weights, which travel as those of every version do.
  Bytes graph;
  BatchNorm batch_norm = BatchNorm::averaged;
  std::optional<Teacher> teacher = {};
  PruningPlan pruning;                            ///< Of what versions are; their masters stay dense.
  RegressionLoss loss = RegressionLoss::squared;  ///< `squared` unless a regression.

  bool operator==(const Release&) const = default;
};

/// No release or manifest is larger; checked before anything is allocated.
inline constexpr std::size_t document_bytes_max = 16 << 20;
/// No graph is larger: with it the document stays below document_bytes_max.
inline constexpr std::size_t graph_bytes_max = 8 << 20;
/// The variants that this runtime can derive.
inline const std::vector<std::string> known_recipes = {"fp32", "int8"};

/// Whether the parts fit together. decode_release() has done it; who makes a release calls it. What
/// needs the network itself (that `layout` is the architecture's) is checked in models/runtime.
/// @return invalid; unsupported for an unknown recipe.
Status check(const Release& release);

/// Lengths 1, the number of features, or that of channels (the first of several dimensions); all
/// finite, scales not zero. @param shape of one sample, checked. @return invalid.
Status check(const Preprocessing& preprocessing, std::span<const std::int64_t> shape);

/// A name of a model or variant, which ends up in paths, URLs and metrics: 1 to 64 letters, digits,
/// '.', '_' or '-', the first a letter or digit. @return invalid.
Status check_name(const std::string& name, const char* what);

/// The bytes that are signed: a Cap'n Proto message of one segment, models/package/package.capnp.
Bytes encode(const Release& release);
/// @param payload  untrusted. @return corrupt, too_large, unsupported.
Result<Release> decode_release(ByteSpan payload);

/// SHA-256 of the signed payload.
ReleaseId release_id(ByteSpan payload);

}  // namespace rivulet
