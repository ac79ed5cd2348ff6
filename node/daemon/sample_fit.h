#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/package/release.h"
#include "protocol/result.h"

namespace rivulet::node {

/// Which samples a release can be trained and judged on.
struct SampleFit {
  std::string model;       ///< The release's name, for errors.
  std::size_t inputs = 0;  ///< Numbers of a sample.
  TaskKind task = TaskKind::classification;
  std::vector<std::string> classes;
  std::int64_t outputs = 1;  ///< Of a regression: only one can be learned, for a label is one number.

  bool operator==(const SampleFit&) const = default;

  /// @return invalid: another width, or a label that is no class, or no number for a regression, or not all
  /// that it answers. A label may come later.
  [[nodiscard]] Status check(std::span<const float> sample, std::optional<std::string_view> label) const;
  /// Whether a task would use it now: it passes check(), and has its label unless the model needs none.
  [[nodiscard]] bool uses(std::span<const float> sample, std::optional<std::string_view> label) const;
};

SampleFit fit_of(const Release& release);

}  // namespace rivulet::node
