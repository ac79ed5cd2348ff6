#include "models/runtime/optimizer.h"

#include <algorithm>
#include <cmath>

#include "protocol/assert.h"

namespace rivulet {
namespace {

constexpr double adam_beta1 = 0.9;
constexpr double adam_beta2 = 0.999;
constexpr double adam_epsilon = 1e-8;

}  // namespace

Optimizer::Optimizer(const OptimizerParameters& parameters, std::size_t size) : parameters_(parameters) {
  const bool adam = parameters.kind == OptimizerKind::adam;
  if (adam || parameters.momentum != 0) first_.assign(size, 0.0F);
  if (adam) second_.assign(size, 0.0F);
}

void Optimizer::add_penalties(std::span<const float> weights, std::span<const float> base,
                              std::span<float> gradient) const {
  const auto decay = static_cast<float>(parameters_.weight_decay);
  const auto mu = static_cast<float>(parameters_.proximal_mu);
  if (decay != 0)
    for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += decay * weights[i];
  if (mu != 0)
    for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += mu * (weights[i] - base[i]);
}

void Optimizer::step(std::span<float> weights, std::span<const float> base, std::span<float> gradient) {
  RIVULET_ASSERT(weights.size() == gradient.size() && weights.size() == base.size());
  RIVULET_ASSERT(first_.empty() || first_.size() == weights.size());
  add_penalties(weights, base, gradient);
  ++steps_;
  const std::size_t size = weights.size();
  if (parameters_.kind == OptimizerKind::adam) {
    const double correction1 = 1 - std::pow(adam_beta1, static_cast<double>(steps_));
    const double correction2 = 1 - std::pow(adam_beta2, static_cast<double>(steps_));
    const auto rate = static_cast<float>(parameters_.learning_rate / correction1);
    const auto unbias = static_cast<float>(1 / std::sqrt(correction2));
    constexpr auto beta1 = static_cast<float>(adam_beta1);
    constexpr auto beta2 = static_cast<float>(adam_beta2);
    constexpr auto epsilon = static_cast<float>(adam_epsilon);
    for (std::size_t i = 0; i < size; ++i) {
      first_[i] += (1 - beta1) * (gradient[i] - first_[i]);
      second_[i] += (1 - beta2) * (gradient[i] * gradient[i] - second_[i]);
      weights[i] -= rate * first_[i] / (std::sqrt(second_[i]) * unbias + epsilon);
    }
  } else {
    const auto rate = static_cast<float>(parameters_.learning_rate);
    const auto momentum = static_cast<float>(parameters_.momentum);
    if (first_.empty()) {
      for (std::size_t i = 0; i < size; ++i) weights[i] -= rate * gradient[i];
    } else {
      for (std::size_t i = 0; i < size; ++i) {
        first_[i] = momentum * first_[i] + gradient[i];
        weights[i] -= rate * first_[i];
      }
    }
  }
  std::ranges::fill(gradient, 0.0F);
}

}  // namespace rivulet
