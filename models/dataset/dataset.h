#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/dataset/samples.h"
#include "models/package/architecture.h"
#include "protocol/result.h"

namespace rivulet {

/// Samples in memory, as they stood in their file. `labels` belongs to a classification, `targets` to a
/// regression; the other one is empty, and both are for an anomaly model.
struct Dataset {
  std::vector<std::int64_t> shape;    ///< Of one sample.
  std::vector<float> inputs;          ///< [size(), product of shape]
  std::vector<std::int64_t> labels;   ///< [size()] index into `classes`.
  std::vector<float> targets;         ///< [size()]
  std::vector<std::string> classes;   ///< By label.
  std::vector<std::uint32_t> groups;  ///< [size()] natural client, numbered as they appear; or empty.

  bool operator==(const Dataset&) const = default;
  [[nodiscard]] std::size_t sample_size() const;
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::span<const float> sample(std::size_t index) const;
};

/// What labels are.
struct LabelRule {
  TaskKind task = TaskKind::classification;
  /// The names of the classes in order. Empty: those that occur, by value if all are whole numbers, by
  /// name otherwise; a test split is then read with the classes of its training split.
  std::vector<std::string> classes{};
};

/// Reads all samples. A file that an experiment or a gate rests on is wholly good or not used.
/// @return invalid with source and line for the first refused sample, missing label or unknown class,
/// and for a source without samples; what the reader returns.
Result<Dataset> collect(SampleReader& reader, const LabelRule& rule);

/// open_samples and collect.
Result<Dataset> load_dataset(const std::filesystem::path& file, SampleFormat format,
                             const SampleOptions& options, const LabelRule& rule);

/// The samples at `indices`, in that order.
Dataset select(const Dataset& dataset, std::span<const std::size_t> indices);

/// The class that `label` names: literally, or as the same whole number ("3", "03", "3.0").
std::optional<std::int64_t> class_index(std::span<const std::string> classes, std::string_view label);

/// The 1,797 digits of data/digits, which are part of the program: 64 pixels from 0 to 16, 10 classes.
Result<Dataset> embedded_digits();

}  // namespace rivulet
