#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "coordinator/work/model_runner.h"
#include "models/runtime/model.h"
#include "node/work/engine.h"
#include "sim/experiment/fleet_data.h"

namespace rivulet::sim {

/// Networks that all virtual nodes share: as many as are in use at once, not one a node. Thread-safe.
class ModelShelf {
 public:
  /// A network for one's own use, with anybody's weights; it goes back with the lease.
  class Lease {
   public:
    Lease(ModelShelf& shelf, std::unique_ptr<Model> model) : shelf_(&shelf), model_(std::move(model)) {}
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    Model& operator*() const { return *model_; }
    Model* operator->() const { return model_.get(); }

   private:
    ModelShelf* shelf_;
    std::unique_ptr<Model> model_;
  };

  /// @return invalid if the release's layout is not that of its architecture; what Model::build returns.
  Result<Lease> take(const Release& release);

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Model>> free_;
};

/// LibTorch on one virtual node's samples. Thread-safe, as it has nothing of its own.
class SharedEngine final : public node::Engine {
 public:
  /// Both outlive the engine.
  SharedEngine(ModelShelf& shelf, const NodeSamples& samples) : shelf_(shelf), samples_(samples) {}

  Result<node::TrainingResult> train(const Release& release, std::span<const float> base,
                                     const message::TrainingPlan& plan,
                                     const std::atomic<bool>& stop) override;
  Result<node::HoldoutScore> score(const Release& release, std::span<const float> weights) override;
  Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                     std::span<const float> inputs) override;

 private:
  ModelShelf& shelf_;
  const NodeSamples& samples_;
};

/// Remembers the last scores of another runner: a version is scored as candidate, as itself and as its
/// variants, which have the same weights.
class RememberingRunner final : public coordinator::ModelRunner {
 public:
  explicit RememberingRunner(std::unique_ptr<coordinator::ModelRunner> runner) : runner_(std::move(runner)) {}

  Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                     std::span<const float> inputs) override {
    return runner_->answers(release, weights, inputs);
  }
  /// @param data stays where it is, and as it is, as long as the runner lives.
  Result<coordinator::Metrics> score(const Release& release, std::span<const float> weights,
                                     const coordinator::ScoringData& data) override;

 private:
  struct Entry {
    Digest weights;
    const coordinator::ScoringData* data;
    coordinator::Metrics metrics;
  };
  std::unique_ptr<coordinator::ModelRunner> runner_;
  std::deque<Entry> entries_;
};

}  // namespace rivulet::sim
