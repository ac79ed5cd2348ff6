#include "models/runtime/evaluation.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "protocol/assert.h"

namespace rivulet {
namespace {

constexpr std::size_t batch_samples = 256;

/// -log softmax(logits)[label], in double.
double cross_entropy(std::span<const float> logits, std::size_t label) {
  const double greatest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - greatest);
  return std::log(sum) - (logits[label] - greatest);
}

/// Runs the model over `samples` inputs and gives each row of its answers to `score(index, row)`.
template <typename Score>
Status for_each_answer(Model& model, std::span<const float> inputs, std::size_t samples,
                       const std::atomic<bool>* stop, const Score& score) {
  const std::size_t input_size = model.architecture().input_size();
  const auto outputs = static_cast<std::size_t>(model.architecture().outputs);
  if (inputs.size() != samples * input_size)
    return fail(Errc::invalid, fmt::format("{} samples of {} numbers are {}, but {} were given", samples,
                                           input_size, samples * input_size, inputs.size()));
  for (std::size_t begin = 0; begin < samples; begin += batch_samples) {
    if (stop != nullptr && stop->load(std::memory_order_relaxed))
      return fail(Errc::cancelled, "the evaluation was stopped");
    const std::size_t batch = std::min(batch_samples, samples - begin);
    const Result<std::vector<float>> answers =
        model.forward(inputs.subspan(begin * input_size, batch * input_size), batch);
    if (!answers) return std::unexpected(answers.error());
    for (std::size_t i = 0; i < batch; ++i) {
      const auto row = std::span<const float>(*answers).subspan(i * outputs, outputs);
      if (!std::ranges::all_of(row, [](float value) { return std::isfinite(value); }))
        return fail(Errc::corrupt, fmt::format("the model's answer to sample {} is not finite", begin + i));
      score(begin + i, row);
    }
  }
  return {};
}

}  // namespace

double Evaluation::accuracy() const {
  return samples == 0 ? 0 : static_cast<double>(correct) / static_cast<double>(samples);
}

double Evaluation::mean_loss() const { return samples == 0 ? 0 : loss_sum / static_cast<double>(samples); }

Result<Evaluation> evaluate(Model& model, std::span<const float> inputs, std::span<const std::int64_t> labels,
                            const std::atomic<bool>* stop) {
  const std::int64_t classes = model.architecture().outputs;
  for (std::size_t i = 0; i < labels.size(); ++i)
    if (labels[i] < 0 || labels[i] >= classes)
      return fail(Errc::invalid, fmt::format("the label of sample {} is {}; the model has classes 0 to {}", i,
                                             labels[i], classes - 1));
  Evaluation result;
  result.samples = labels.size();
  result.right.resize(labels.size());
  const Status status =
      for_each_answer(model, inputs, labels.size(), stop, [&](std::size_t i, std::span<const float> row) {
        const bool right = std::ranges::max_element(row) - row.begin() == labels[i];
        result.right[i] = right ? 1 : 0;
        result.correct += right ? 1 : 0;
        result.loss_sum += cross_entropy(row, static_cast<std::size_t>(labels[i]));
      });
  if (!status) return std::unexpected(status.error());
  return result;
}

Result<Evaluation> evaluate_values(Model& model, std::span<const float> inputs,
                                   std::span<const float> targets, const std::atomic<bool>* stop,
                                   RegressionLoss loss) {
  const auto outputs = static_cast<std::size_t>(model.architecture().outputs);
  if (targets.size() % outputs != 0)
    return fail(Errc::invalid, fmt::format("{} target values are no whole number of samples of {}",
                                           targets.size(), outputs));
  Evaluation result;
  result.samples = targets.size() / outputs;
  const Status status =
      for_each_answer(model, inputs, result.samples, stop, [&](std::size_t i, std::span<const float> row) {
        double sum = 0;
        for (std::size_t j = 0; j < outputs; ++j)
          sum += loss_of(loss, static_cast<double>(row[j]) - targets[i * outputs + j]);
        const double mean = sum / static_cast<double>(outputs);
        result.loss_sum += mean;
        result.losses.push_back(static_cast<float>(mean));
      });
  if (!status) return std::unexpected(status.error());
  return result;
}

void softmax(std::span<float> row) {
  RIVULET_ASSERT(!row.empty());
  const float greatest = *std::ranges::max_element(row);
  double sum = 0;
  for (float& value : row) {
    value = std::exp(value - greatest);
    sum += value;
  }
  for (float& value : row) value = static_cast<float>(value / sum);
}

}  // namespace rivulet
