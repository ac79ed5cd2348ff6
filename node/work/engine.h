#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "models/package/release.h"
#include "protocol/message.h"
#include "protocol/result.h"

namespace rivulet::node {

struct TrainingResult {
  std::vector<float> delta;  ///< [layout.size()] trained - base, clipped to the plan's norm bound.
  std::uint64_t samples = 0;
  double loss_first = 0;
  double loss_last = 0;
};

/// One model on the node's labelled holdout, sample by sample in one fixed order.
struct HoldoutScore {
  std::vector<std::uint8_t> right;  ///< [n] 1 where the class is right; of values all 0.
  double loss_sum = 0;
  std::vector<float> losses = {};  ///< [n] of a model that answers values, else empty.
};

/// Runs models on what the node has stored: LibTorch in the daemon and the simulator. Its owner says
/// which thread calls it; one at a time.
class Engine {
 public:
  virtual ~Engine() = default;
  /// @param base [layout.size()] @param stop ends the training early, with Errc::cancelled.
  /// @return an Error whose reason is training_diverged, too_few_samples or training_failed.
  virtual Result<TrainingResult> train(const Release& release, std::span<const float> base,
                                       const message::TrainingPlan& plan, const std::atomic<bool>& stop) = 0;
  virtual Result<HoldoutScore> score(const Release& release, std::span<const float> weights) = 0;
  /// What inference answers to raw samples. @param inputs [n * input_size] @return [n * outputs]
  virtual Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                             std::span<const float> inputs) = 0;
  /// The weights with batch norm's running statistics as the stored training samples give them; the same
  /// weights where no model has such.
  virtual Result<std::vector<float>> localize(const Release& release, std::span<const float> weights) {
    static_cast<void>(release);
    return std::vector<float>(weights.begin(), weights.end());
  }
};

}  // namespace rivulet::node
