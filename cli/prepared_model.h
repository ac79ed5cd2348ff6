#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/package/release.h"
#include "models/package/spec.h"
#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet::cli {

/// Samples that a release comes with, raw.
struct LabelledSamples {
  std::vector<float> inputs;         ///< [n * input_size]
  std::vector<std::int64_t> labels;  ///< [n]; 0 unless a classification.
  std::vector<float> targets{};      ///< [n] of a regression, else empty.

  bool operator==(const LabelledSamples&) const = default;
};

/// What rivulet-model makes of a specification, and rivulet signs and imports.
struct PreparedModel {
  Bytes release;               ///< encode(Release), not signed yet.
  std::vector<float> weights;  ///< w_0
  std::optional<LabelledSamples> holdout;
  std::optional<LabelledSamples> test;
  std::vector<std::string> notes;  ///< What the operator should know of a network of his own, one line each.

  bool operator==(const PreparedModel&) const = default;
};

/// No file of a prepared model is larger.
inline constexpr std::uint64_t prepared_bytes_max = std::uint64_t{1} << 30;

/// Writes a prepared model into an existing folder:
///   release.payload                 the bytes to be signed
///   weights.f32                     float32 LE[layout.size()]
///   holdout.inputs.f32, .labels.i64 float32 LE[n * input_size], i64 LE[n]; only if there is a holdout
///   test.inputs.f32, .labels.i64    the same for the test split
///   *.targets.f32                   of a regression in place of the labels: float32 LE[n]
///   notes.txt                       a line each
/// @return storage, storage_full, permission, not_found.
Status write_prepared(const std::filesystem::path& folder, const PreparedModel& model);

/// Reads it again. @return corrupt for files that don't fit together, too_large; not_found.
Result<PreparedModel> read_prepared(const std::filesystem::path& folder);

/// Whether the release says what the specification says, for this fleet and epoch, and whether weights and
/// samples are those of the release: what is about to be signed is what the operator wrote.
/// @param teacher that it must name. @return the decoded release; corrupt.
Result<Release> check_prepared(const PreparedModel& model, const ModelSpec& spec, const FleetId& fleet,
                               std::uint64_t epoch, const std::optional<Teacher>& teacher = {});

/// How far versions may go from their first weights where nobody says so: 10 * (norm of `weights` + 1).
double default_distance(const ParameterLayout& layout, std::span<const float> weights);

/// Makes `weights` the first ones of a release.
/// @param max_distance that versions may have from them; 0: default_distance.
void begin_with(Release& release, std::span<const float> weights, double max_distance);

}  // namespace rivulet::cli
