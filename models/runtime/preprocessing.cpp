#include "models/runtime/preprocessing.h"

#include "models/package/release.h"
#include "protocol/assert.h"

namespace rivulet {
namespace {

/// One value for each of a sample's `size` numbers. @param values [1], [channels] or [size].
std::vector<float> spread(std::span<const float> values, std::size_t size) {
  std::vector<float> result(size);
  const std::size_t run = size / values.size();
  for (std::size_t i = 0; i < size; ++i) result[i] = values[i / run];
  return result;
}

}  // namespace

Result<Preprocessor> Preprocessor::make(const Preprocessing& preprocessing,
                                        std::span<const std::int64_t> shape) {
  if (Status status = check(preprocessing, shape); !status) return std::unexpected(status.error());
  std::size_t size = 1;
  for (const std::int64_t dimension : shape) size *= static_cast<std::size_t>(dimension);
  Preprocessor result;
  result.mean_ = spread(preprocessing.mean, size);
  result.scale_ = spread(preprocessing.scale, size);
  return result;
}

void Preprocessor::apply(std::span<float> samples) const {
  RIVULET_ASSERT(samples.size() % mean_.size() == 0);
  for (std::size_t begin = 0; begin < samples.size(); begin += mean_.size())
    for (std::size_t i = 0; i < mean_.size(); ++i)
      samples[begin + i] = (samples[begin + i] - mean_[i]) / scale_[i];
}

}  // namespace rivulet
