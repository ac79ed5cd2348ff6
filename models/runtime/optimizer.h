#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rivulet {

enum class OptimizerKind : std::uint8_t { sgd, adam };

struct OptimizerParameters {
  OptimizerKind kind = OptimizerKind::sgd;
  double learning_rate = 0.1;
  double momentum = 0;      ///< SGD's only.
  double weight_decay = 0;  ///< L2: its product with the weights is added to the gradient.
  double proximal_mu = 0;   ///< FedProx: mu/2 * |w - base|^2 in the loss (Li et al. 2020, arXiv:1812.06127).
};

/// Steps of gradient descent on one flat vector. SGD with momentum as PyTorch has it: v = m*v + g,
/// w -= lr*v. Adam: Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1, with their constants.
class Optimizer {
 public:
  Optimizer(const OptimizerParameters& parameters, std::size_t size);

  /// One step. @param gradient is set to zero, ready for the next batch. All three are [size].
  void step(std::span<float> weights, std::span<const float> base, std::span<float> gradient);

 private:
  void add_penalties(std::span<const float> weights, std::span<const float> base,
                     std::span<float> gradient) const;

  OptimizerParameters parameters_;
  std::uint64_t steps_ = 0;
  std::vector<float> first_;   // SGD's velocity, Adam's first moment; empty without momentum.
  std::vector<float> second_;  // Adam's second moment.
};

}  // namespace rivulet
