#pragma once

#include <span>
#include <vector>

#include "models/package/preprocessing.h"
#include "protocol/result.h"

namespace rivulet {

/// Turns raw samples into a network's inputs: (x - mean) / scale, in float32 as NumPy would. A value,
/// checked when it is made; thread-safe.
class Preprocessor {
 public:
  /// @param shape of one sample, without the batch dimension; each dimension at least 1.
  /// @return invalid as check(preprocessing, shape) of models/package/release.h says.
  static Result<Preprocessor> make(const Preprocessing& preprocessing, std::span<const std::int64_t> shape);

  [[nodiscard]] std::size_t input_size() const { return mean_.size(); }
  /// @param samples [n * input_size()], changed in place.
  void apply(std::span<float> samples) const;

 private:
  std::vector<float> mean_;  // [input_size], as is scale_: one form for scalar, channel and feature.
  std::vector<float> scale_;
};

}  // namespace rivulet
