#pragma once

#include "coordinator/work/model_runner.h"
#include "node/work/engine.h"

namespace rivulet::sim {

/// Softmax regression in plain code, so that the virtual world runs thousands of fleets without
/// LibTorch: W [outputs, inputs], b [outputs], one step of full-batch gradient descent an epoch.
struct ToyData {
  std::size_t inputs = 0;
  std::vector<float> samples;        ///< [n * inputs]
  std::vector<std::int64_t> labels;  ///< [n]
};

ParameterLayout toy_layout(std::size_t inputs, std::size_t outputs);
/// Points around one centre per class; the same seed gives the same points, each `node` its own.
ToyData toy_data(std::uint64_t seed, std::size_t count, std::size_t inputs, std::size_t outputs);

class ToyRunner final : public coordinator::ModelRunner {
 public:
  Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                     std::span<const float> inputs) override;
  Result<coordinator::Metrics> score(const Release& release, std::span<const float> weights,
                                     const coordinator::ScoringData& data) override;
};

class ToyEngine final : public node::Engine {
 public:
  ToyEngine(ToyData training, ToyData holdout)
      : training_(std::move(training)), holdout_(std::move(holdout)) {}
  Result<node::TrainingResult> train(const Release& release, std::span<const float> base,
                                     const message::TrainingPlan& plan,
                                     const std::atomic<bool>& stop) override;
  Result<node::HoldoutScore> score(const Release& release, std::span<const float> weights) override;
  Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                     std::span<const float> inputs) override;

 private:
  ToyData training_;
  ToyData holdout_;
};

}  // namespace rivulet::sim
