#pragma once

#include <span>
#include <vector>

#include "coordinator/core/events.h"
#include "models/package/release.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

/// Samples that the coordinator scores on: a release's holdout or test split.
struct ScoringData {
  std::vector<float> inputs;         ///< [n * input_size] raw, as they were measured.
  std::vector<std::int64_t> labels;  ///< [n]
};

/// Runs models for the coordinator's worker: LibTorch in the daemon and the simulator. One thread at a
/// time uses it.
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  /// What inference answers to raw samples: probabilities of a classification, else values.
  /// @param weights [layout.size()] @param inputs [n * input_size] @return [n * outputs]
  virtual Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                             std::span<const float> inputs) = 0;
  /// @return a loss that is not finite if one of the answers is not.
  virtual Result<Metrics> score(const Release& release, std::span<const float> weights,
                                const ScoringData& data) = 0;
};

}  // namespace rivulet::coordinator
