#pragma once

#include <atomic>
#include <optional>
#include <vector>

#include "models/runtime/model.h"
#include "node/daemon/metrics.h"
#include "node/daemon/sample_store.h"
#include "node/work/engine.h"

namespace rivulet::node {

/// Runs LibTorch's networks on the node's own samples. One thread at a time; training and judging have an
/// engine each.
class TorchEngine final : public Engine {
 public:
  /// Both outlive the engine.
  TorchEngine(const SampleStore& samples, Metrics& metrics) : samples_(samples), metrics_(metrics) {}

  /// To be called before each comparison, whose models then see the same samples, whatever arrives meanwhile.
  /// @param stop ends score() early, with Errc::cancelled, and localize() with what was read; outlives the
  /// comparison; may be null.
  void begin_comparison(const std::atomic<bool>* stop = nullptr) {
    end_comparison();
    stop_ = stop;
  }
  /// Forgets the holdout that score() read, and the network: between comparisons, hours may pass.
  void end_comparison() {
    holdout_.reset();
    model_.reset();
    stop_ = nullptr;
  }

  Result<TrainingResult> train(const Release& release, std::span<const float> base,
                               const message::TrainingPlan& plan, const std::atomic<bool>& stop) override;
  /// Stored inputs that fit the release, drawn evenly from all of them, the same ones each time: raw,
  /// [n * input_size], n at most `samples_max`.
  Result<std::vector<float>> own_samples(const Release& release, Split split, std::size_t samples_max);
  Result<HoldoutScore> score(const Release& release, std::span<const float> weights) override;
  /// Where the stored samples cannot be read, with those before the damage: serving comes first.
  Result<std::vector<float>> localize(const Release& release, std::span<const float> weights) override;
  /// What inference answers in float: see answers_of.
  Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                     std::span<const float> inputs) override;

 private:
  /// What a release makes of the stored samples.
  struct Data {
    std::vector<float> inputs;         // preprocessed
    std::vector<std::int64_t> labels;  // of a classification
    std::vector<float> targets;        // of a regression
    std::size_t count = 0;
    std::size_t skipped = 0;
    std::string why;  // the first one was skipped
  };
  struct Holdout {
    ReleaseId release;
    Data data;
  };
  /// @param data what was read before an error too.
  Status read(const Release& release, Split split, Data& data);
  Result<Data> load(const Release& release, Split split);
  Result<Model*> model_of(const Release& release);

  const SampleStore& samples_;
  Metrics& metrics_;
  std::optional<Model> model_;  // of the last release: rounds train the same network again and again
  std::optional<Holdout> holdout_;
  const std::atomic<bool>* stop_ = nullptr;
};

}  // namespace rivulet::node
