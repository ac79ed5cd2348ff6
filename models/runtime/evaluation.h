#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "models/runtime/model.h"
#include "protocol/result.h"

namespace rivulet {

struct Evaluation {
  std::size_t samples = 0;
  std::size_t correct = 0;  ///< 0 unless a classification.
  double loss_sum = 0;      ///< Cross-entropy in nats, or the mean loss of each sample's values.
  /// [samples], 1 where the class was right: two models on the same samples compare pairwise. Empty
  /// unless a classification.
  std::vector<std::uint8_t> right;
  std::vector<float> losses;  ///< [samples], of each sample; empty if a classification.

  [[nodiscard]] double accuracy() const;   ///< In [0, 1]; 0 without samples.
  [[nodiscard]] double mean_loss() const;  ///< 0 without samples.
};

/// Scores a classifier. A tie between classes goes to the lower one.
/// @param inputs [n * input_size], preprocessed. @param labels [n].
/// @param stop looked at before each batch of up to 256 samples; may be null.
/// @return invalid on wrong lengths or a label outside [0, outputs), corrupt when the model answers a
/// number that is not finite, cancelled if it was stopped.
Result<Evaluation> evaluate(Model& model, std::span<const float> inputs, std::span<const std::int64_t> labels,
                            const std::atomic<bool>* stop = nullptr);

/// Scores a regression, or with the inputs as targets an anomaly model, by the mean loss of a sample's
/// values. @param targets [n * outputs].
Result<Evaluation> evaluate_values(Model& model, std::span<const float> inputs,
                                   std::span<const float> targets, const std::atomic<bool>* stop = nullptr,
                                   RegressionLoss loss = RegressionLoss::squared);

/// Logits to probabilities, in place; the greatest is taken off first, so no finite logit overflows.
void softmax(std::span<float> row);

}  // namespace rivulet
