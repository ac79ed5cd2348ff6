#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/pruning.h"
#include "models/runtime/distillation.h"
#include "models/runtime/model.h"
#include "models/runtime/optimizer.h"
#include "protocol/result.h"

namespace rivulet {

struct TrainingParameters {
  std::uint32_t epochs = 1;       ///< Passes over the data.
  std::uint32_t batch_size = 10;  ///< Samples a step; the last one of an epoch may have fewer.
  double learning_rate = 0.1;
  double momentum = 0;
  double weight_decay = 0;
  double proximal_mu = 0;  ///< FedProx; 0 is FedAvg's plain objective.
  double clip_norm = 0;    ///< Greatest L2 norm of the delta; a longer one is scaled down to it. 0 is none.
  std::uint64_t seed = 0;  ///< Of the order of the samples.
  OptimizerKind optimizer = OptimizerKind::sgd;
  /// Weights that are 0 in the base are 0 in every forward pass; the plain gradient steps that they would
  /// have taken are in the delta all the same. For a base that was pruned: so its statistics and its other
  /// weights learn to do without (Lin et al. 2020, arXiv:2006.07253). Plain, since Adam would bring them all
  /// back, however small their gradients. What int8 rounded to 0 is not told apart from what was pruned.
  bool pruned = false;
};

/// What a model learns from; borrowed for the length of a call.
struct TrainingData {
  std::span<const float> inputs;              ///< [n * input_size], preprocessed.
  std::span<const std::int64_t> labels = {};  ///< [n], of a classification: in [0, outputs).
  std::span<const float> targets = {};        ///< [n * outputs], of a regression.
  /// Classification trains on cross-entropy, regression on `loss`, anomaly on the mean squared error of
  /// rebuilding the inputs (so that outputs = input_size).
  TaskKind task = TaskKind::classification;
  /// Of a student: what it learns of its teacher beside labels or targets, or in place of them.
  std::optional<SoftTargets> teacher = {};
  RegressionLoss loss = RegressionLoss::squared;
};

enum class TrainingEnd : std::uint8_t {
  finished,
  stopped,   ///< The caller asked; the delta has the steps until then.
  diverged,  ///< A loss or weight was not finite; there is no delta.
};

struct TrainingOutcome {
  TrainingEnd end = TrainingEnd::finished;
  std::string detail;        ///< One line for the log when it diverged.
  std::vector<float> delta;  ///< Trained - base, clipped; empty when it diverged.
  double delta_norm = 0;     ///< L2, before clipping.
  /// Mean loss of the first batch, so that of the base weights; of the last epoch begun, each batch before
  /// its own step. Without FedProx's and weight decay's terms.
  double loss_first = 0;
  double loss_last = 0;
  double accuracy = 0;      ///< Of the last epoch begun, as loss_last; 0 unless there are labels.
  std::size_t samples = 0;  ///< In the data.
  std::size_t steps = 0;    ///< Taken.
};

/// What TrainingParameters::pruned is for versions that are pruned by such a plan: only where running
/// statistics would settle on weights that the next version cuts off again. Other networks learn faster by
/// dense steps between their versions (docs/models.md has figures).
bool hides_pruned_weights(const PruningPlan& plan, const ParameterLayout& layout);

/// Trains `model` from `base_weights`, whatever weights it had, and leaves it with the trained ones. The
/// same arguments give the same bits on one machine with one thread (use_one_thread).
/// @param stop  looked at before each step; may be null.
/// @return invalid when lengths, labels or parameters don't fit the model, or an input is not finite.
Result<TrainingOutcome> train(Model& model, std::span<const float> base_weights, const TrainingData& data,
                              const TrainingParameters& parameters, const std::atomic<bool>* stop = nullptr);

}  // namespace rivulet
