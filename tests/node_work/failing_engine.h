#pragma once

#include "node/work/engine.h"

namespace rivulet::testing {

/// A library, or a device, that fails.
class FailingEngine final : public node::Engine {
 public:
  explicit FailingEngine(Error error) : error_(std::move(error)) {}
  Result<node::TrainingResult> train(const Release&, std::span<const float>, const message::TrainingPlan&,
                                     const std::atomic<bool>&) override {
    return std::unexpected(error_);
  }
  Result<node::HoldoutScore> score(const Release&, std::span<const float>) override {
    return std::unexpected(error_);
  }
  Result<std::vector<float>> answers(const Release&, std::span<const float>,
                                     std::span<const float>) override {
    return std::unexpected(error_);
  }

 private:
  Error error_;
};

}  // namespace rivulet::testing
