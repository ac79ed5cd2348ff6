#include "sim/world/toy_model.h"

#include <algorithm>
#include <cmath>

#include "protocol/rng.h"

namespace rivulet::sim {
namespace {

struct Shape {
  std::size_t inputs;
  std::size_t outputs;
};

Shape shape_of(const ParameterLayout& layout) {
  return {static_cast<std::size_t>(layout.tensors[0].shape[1]),
          static_cast<std::size_t>(layout.tensors[0].shape[0])};
}

/// Class probabilities of one sample.
std::vector<float> predict(Shape shape, std::span<const float> weights, std::span<const float> sample) {
  std::vector<float> row(shape.outputs);
  float top = -INFINITY;
  for (std::size_t c = 0; c < shape.outputs; ++c) {
    float logit = weights[shape.outputs * shape.inputs + c];
    for (std::size_t i = 0; i < shape.inputs; ++i) logit += weights[c * shape.inputs + i] * sample[i];
    row[c] = logit;
    top = std::max(top, logit);
  }
  float sum = 0;
  for (float& x : row) sum += x = std::exp(x - top);
  for (float& x : row) x /= sum;
  return row;
}

node::HoldoutScore score_all(Shape shape, std::span<const float> weights, std::span<const float> samples,
                             std::span<const std::int64_t> labels) {
  node::HoldoutScore score;
  for (std::size_t k = 0; k < labels.size(); ++k) {
    const auto row = predict(shape, weights, samples.subspan(k * shape.inputs, shape.inputs));
    const auto best = std::max_element(row.begin(), row.end()) - row.begin();
    score.right.push_back(best == labels[k] ? 1 : 0);
    score.loss_sum -= std::log(std::max(row[static_cast<std::size_t>(labels[k])], 1e-30F));
  }
  return score;
}

std::vector<float> answer_all(Shape shape, std::span<const float> weights, std::span<const float> inputs) {
  std::vector<float> answers;
  for (std::size_t at = 0; at + shape.inputs <= inputs.size(); at += shape.inputs) {
    const auto row = predict(shape, weights, inputs.subspan(at, shape.inputs));
    answers.insert(answers.end(), row.begin(), row.end());
  }
  return answers;
}

}  // namespace

ParameterLayout toy_layout(std::size_t inputs, std::size_t outputs) {
  const auto in = static_cast<std::int64_t>(inputs), out = static_cast<std::int64_t>(outputs);
  return {{{"fc1.weight", {out, in}, TensorKind::parameter}, {"fc1.bias", {out}, TensorKind::parameter}}};
}

ToyData toy_data(std::uint64_t seed, std::size_t count, std::size_t inputs, std::size_t outputs) {
  Rng rng(seed);
  ToyData data{inputs, {}, {}};
  for (std::size_t k = 0; k < count; ++k) {
    const auto label = uniform_below(rng, outputs);
    data.labels.push_back(static_cast<std::int64_t>(label));
    for (std::size_t i = 0; i < inputs; ++i) {
      const double centre = i % outputs == label ? 1.0 : 0.0;
      data.samples.push_back(static_cast<float>(centre + uniform_unit(rng) - 0.5));
    }
  }
  return data;
}

Result<std::vector<float>> ToyRunner::answers(const Release& release, std::span<const float> weights,
                                              std::span<const float> inputs) {
  return answer_all(shape_of(release.layout), weights, inputs);
}

Result<coordinator::Metrics> ToyRunner::score(const Release& release, std::span<const float> weights,
                                              const coordinator::ScoringData& data) {
  const auto score = score_all(shape_of(release.layout), weights, data.inputs, data.labels);
  const auto n = static_cast<double>(score.right.size());
  const auto right = std::count(score.right.begin(), score.right.end(), 1);
  return coordinator::Metrics{static_cast<double>(right) / n, score.loss_sum / n, score.right.size()};
}

Result<node::TrainingResult> ToyEngine::train(const Release& release, std::span<const float> base,
                                              const message::TrainingPlan& plan, const std::atomic<bool>&) {
  const Shape shape = shape_of(release.layout);
  std::vector<float> weights(base.begin(), base.end());
  const std::size_t n = training_.labels.size();
  node::TrainingResult result{.delta = {}, .samples = n};
  for (std::uint32_t epoch = 0; epoch < plan.epochs; ++epoch) {
    std::vector<float> gradient(weights.size());
    double loss = 0;
    for (std::size_t k = 0; k < n; ++k) {
      const auto sample = std::span(training_.samples).subspan(k * shape.inputs, shape.inputs);
      auto row = predict(shape, weights, sample);
      const auto label = static_cast<std::size_t>(training_.labels[k]);
      loss -= std::log(std::max(row[label], 1e-30F));
      row[label] -= 1;
      for (std::size_t c = 0; c < shape.outputs; ++c) {
        for (std::size_t i = 0; i < shape.inputs; ++i) gradient[c * shape.inputs + i] += row[c] * sample[i];
        gradient[shape.outputs * shape.inputs + c] += row[c];
      }
    }
    const auto rate = static_cast<float>(plan.learning_rate / static_cast<double>(n));
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] -= rate * gradient[i];
    (epoch == 0 ? result.loss_first : result.loss_last) = loss / static_cast<double>(n);
  }
  double norm = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    result.delta.push_back(weights[i] - base[i]);
    norm += static_cast<double>(result.delta[i]) * result.delta[i];
  }
  norm = std::sqrt(norm);
  if (plan.norm_bound > 0 && norm > plan.norm_bound) {
    for (float& x : result.delta) x *= static_cast<float>(plan.norm_bound / norm);
  }
  return result;
}

Result<node::HoldoutScore> ToyEngine::score(const Release& release, std::span<const float> weights) {
  return score_all(shape_of(release.layout), weights, holdout_.samples, holdout_.labels);
}

Result<std::vector<float>> ToyEngine::answers(const Release& release, std::span<const float> weights,
                                              std::span<const float> inputs) {
  return answer_all(shape_of(release.layout), weights, inputs);
}

}  // namespace rivulet::sim
