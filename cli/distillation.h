#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "protocol/result.h"

namespace rivulet::cli {

/// How a student learns.
struct DistillOptions {
  std::filesystem::path data;     ///< Samples, with or without labels.
  std::filesystem::path holdout;  ///< Where student and teacher are compared; empty: on a tenth of the data.
  std::string label;              ///< As SampleOptions::label.
  double temperature = 4;
  double soft_weight = 0.7;
  std::uint32_t epochs = 10;
  std::uint32_t batch_size = 32;
  double learning_rate = 1e-3;  ///< Of Adam.
};

/// Whether the numbers are in their ranges. @return invalid with the option.
Status check(const DistillOptions& options);

/// How a student compares with its teacher, on samples that it was not trained on.
struct DistillationReport {
  /// "accuracy"; "agreement" (how often the student says what the teacher says) for a classification without
  /// labels; else "error", the mean of the squares.
  std::string measure;
  double teacher = 0;  ///< 1 for an agreement.
  double student = 0;
  std::size_t samples = 0;   ///< That the student was trained on.
  std::size_t held_out = 0;  ///< That they were compared on.
  std::size_t teacher_parameters = 0;
  std::size_t student_parameters = 0;

  bool operator==(const DistillationReport&) const = default;
  /// student / teacher; nothing if the teacher has 0.
  [[nodiscard]] std::optional<double> ratio() const;
};

nlohmann::json to_json(const DistillationReport& report);

/// FOLDER/distillation.json, between rivulet-model and rivulet.
Status write_report(const std::filesystem::path& folder, const DistillationReport& report);
/// @return corrupt, not_found.
Result<DistillationReport> read_report(const std::filesystem::path& folder);

}  // namespace rivulet::cli
