#include "models/runtime/training.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>

#include "models/runtime/model_impl.h"
#include "models/runtime/soft_loss.h"
#include "models/runtime/torchscript/user_model.h"
#include "models/runtime/training_checks.h"
#include "protocol/rng.h"

namespace rivulet {
namespace {

/// Sums over the samples of an epoch.
struct Tally {
  double loss_sum = 0;
  std::size_t correct = 0;
  std::size_t samples = 0;
};

/// The tensors of one step, made once: each batch is copied into the same memory.
class BatchTensors {
 public:
  BatchTensors(const TrainingData& data, std::size_t samples, std::size_t batch_max) : data_(data) {
    const auto rows = static_cast<std::int64_t>(batch_max);
    input_width_ = data.inputs.size() / samples;
    inputs_ = at::empty({rows, static_cast<std::int64_t>(input_width_)}, at::kFloat);
    if (data.task == TaskKind::classification && !data.labels.empty()) labels_ = at::empty({rows}, at::kLong);
    if (data.task == TaskKind::regression && !data.targets.empty()) {
      target_width_ = data.targets.size() / samples;
      targets_ = at::empty({rows, static_cast<std::int64_t>(target_width_)}, at::kFloat);
    }
    if (data.teacher) {
      teacher_width_ = data.teacher->outputs.size() / samples;
      teacher_ = at::empty({rows, static_cast<std::int64_t>(teacher_width_)}, at::kFloat);
    }
  }

  void gather(std::span<const std::size_t> rows) {
    rows_ = static_cast<std::int64_t>(rows.size());
    copy_rows(data_.inputs, rows, input_width_, inputs_.data_ptr<float>());
    if (labels_.defined()) copy_rows(data_.labels, rows, 1, labels_.data_ptr<std::int64_t>());
    if (targets_.defined()) copy_rows(data_.targets, rows, target_width_, targets_.data_ptr<float>());
    if (teacher_.defined())
      copy_rows(data_.teacher->outputs, rows, teacher_width_, teacher_.data_ptr<float>());
  }

  [[nodiscard]] at::Tensor inputs() const { return inputs_.narrow(0, 0, rows_); }

  /// The mean over the batch.
  [[nodiscard]] at::Tensor loss(const at::Tensor& outputs) const {
    if (!teacher_.defined()) return hard_loss(outputs);
    const at::Tensor soft =
        soft_loss(outputs, teacher_.narrow(0, 0, rows_), data_.task, data_.teacher->temperature);
    const bool alone = !labels_.defined() && !targets_.defined() && data_.task != TaskKind::anomaly;
    if (alone) return soft;
    return data_.teacher->weight * soft + (1 - data_.teacher->weight) * hard_loss(outputs);
  }

  [[nodiscard]] std::size_t correct(const at::Tensor& outputs) const {
    if (!labels_.defined()) return 0;
    const at::Tensor rows = outputs.contiguous();
    const float* row = rows.data_ptr<float>();
    const std::int64_t* label = labels_.data_ptr<std::int64_t>();
    std::size_t count = 0;
    for (std::int64_t i = 0; i < rows_; ++i, row += rows.size(1), ++label)
      if (std::max_element(row, row + rows.size(1)) - row == *label) ++count;
    return count;
  }

 private:
  [[nodiscard]] at::Tensor hard_loss(const at::Tensor& outputs) const {
    if (data_.task == TaskKind::classification)
      return at::cross_entropy_loss(outputs, labels_.narrow(0, 0, rows_));
    if (!targets_.defined()) return at::mse_loss(outputs, inputs());
    const at::Tensor targets = targets_.narrow(0, 0, rows_);
    if (data_.loss == RegressionLoss::huber) return at::huber_loss(outputs, targets);  // Its delta is 1.
    if (data_.loss == RegressionLoss::absolute) return at::l1_loss(outputs, targets);
    return at::mse_loss(outputs, targets);
  }

  template <typename T>
  static void copy_rows(std::span<const T> from, std::span<const std::size_t> rows, std::size_t width,
                        T* to) {
    for (const std::size_t row : rows)
      to = std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(row * width), width, to);
  }

  const TrainingData& data_;
  std::size_t input_width_ = 0;
  std::size_t target_width_ = 0;
  std::size_t teacher_width_ = 0;
  std::int64_t rows_ = 0;
  at::Tensor inputs_;
  at::Tensor labels_;
  at::Tensor targets_;
  at::Tensor teacher_;
};

/// Entries that the optimizer leaves alone: statistics that the forward pass has moved, frozen parameters.
class HeldEntries {
 public:
  explicit HeldEntries(std::span<const CoordinateRange> ranges) : ranges_(ranges) {}

  void save(std::span<const float> weights) {
    saved_.clear();
    for (const auto [begin, end] : ranges_)
      saved_.insert(saved_.end(), weights.begin() + static_cast<std::ptrdiff_t>(begin),
                    weights.begin() + static_cast<std::ptrdiff_t>(end));
  }
  void restore(std::span<float> weights) const {
    auto next = saved_.begin();
    for (const auto [begin, end] : ranges_) {
      const auto length = static_cast<std::ptrdiff_t>(end - begin);
      std::copy_n(next, length, weights.begin() + static_cast<std::ptrdiff_t>(begin));
      next += length;
    }
  }

 private:
  std::span<const CoordinateRange> ranges_;
  std::vector<float> saved_;
};

/// The weights that a pruned base has as 0: hidden from the forward pass, they collect plain gradient steps.
class PrunedEntries {
 public:
  PrunedEntries(const ParameterLayout& layout, std::span<const float> base,
                const TrainingParameters& parameters)
      : rate_(static_cast<float>(parameters.learning_rate)) {
    std::size_t begin = 0;
    for (const TensorSpec& tensor : layout.tensors) {
      const std::size_t end = begin + tensor.size();
      for (std::size_t i = begin; parameters.pruned && tensor.is_weight() && i < end; ++i)
        if (base[i] == 0.0F) places_.push_back(i);
      begin = end;
    }
    steps_.resize(places_.size());
  }

  /// Before the optimizer's step, which hide() takes back.
  void collect(std::span<const float> gradient) {
    for (std::size_t k = 0; k < places_.size(); ++k) steps_[k] -= rate_ * gradient[places_[k]];
  }
  void hide(std::span<float> weights) const {
    for (const std::size_t place : places_) weights[place] = 0.0F;
  }
  void reveal(std::span<float> weights) const {
    for (std::size_t k = 0; k < places_.size(); ++k) weights[places_[k]] = steps_[k];
  }

 private:
  float rate_;
  std::vector<std::size_t> places_;
  std::vector<float> steps_;
};

TrainingOutcome& diverge(TrainingOutcome& outcome, std::string_view what, std::string_view advice) {
  outcome.end = TrainingEnd::diverged;
  outcome.detail = fmt::format("training diverged: {} after {} steps; {}", what, outcome.steps, advice);
  return outcome;
}

std::string slower(const TrainingParameters& parameters) {
  return fmt::format("lower training.learning_rate ({})", parameters.learning_rate);
}

/// @return false when the loss was not finite; no step is taken then.
bool take_step(Model::Impl& model, BatchTensors& batch, std::span<const std::size_t> rows,
               Optimizer& optimizer, HeldEntries& held, PrunedEntries& pruned, std::span<const float> base,
               Tally& tally) {
  batch.gather(rows);
  const at::Tensor outputs = model.module.forward({batch.inputs()}).toTensor();
  const at::Tensor loss = batch.loss(outputs);
  const double value = loss.item<float>();
  if (!std::isfinite(value)) return false;
  tally.loss_sum += value * static_cast<double>(rows.size());
  tally.correct += batch.correct(outputs);
  tally.samples += rows.size();
  loss.backward();
  held.save(model.weights_span());
  pruned.collect(model.gradient_span());
  optimizer.step(model.weights_span(), base, model.gradient_span());
  held.restore(model.weights_span());
  pruned.hide(model.weights_span());
  return true;
}

/// Fills delta and delta_norm from the trained weights, or says that they diverged.
void finish(TrainingOutcome& outcome, std::span<const float> trained, std::span<const float> base,
            const ParameterLayout& layout, const TrainingParameters& parameters) {
  outcome.delta.resize(trained.size());
  for (std::size_t i = 0; i < trained.size(); ++i) outcome.delta[i] = trained[i] - base[i];
  const auto normed = ranges_of(layout, TensorKind::parameter);
  double squares = 0;
  for (const auto [begin, end] : normed) {
    for (std::size_t i = begin; i < end; ++i)
      squares += static_cast<double>(outcome.delta[i]) * outcome.delta[i];
  }
  outcome.delta_norm = std::sqrt(squares);
  // A single entry that is not finite makes the sum so; statistics are not in it.
  if (!std::isfinite(outcome.delta_norm)) {
    outcome.delta.clear();
    diverge(outcome, "a weight is not finite", slower(parameters));
  } else if (!std::ranges::all_of(outcome.delta, [](float entry) { return std::isfinite(entry); })) {
    const bool alone = parameters.batch_size == 1 || outcome.samples == 1;
    outcome.delta.clear();
    diverge(outcome, "a running statistic is not finite",
            alone ? "batch norm has no variance of one value: train with a training.batch_size of at least 2 "
                    "and at "
                    "least 2 samples"
                  : slower(parameters));
  } else if (parameters.clip_norm > 0 && outcome.delta_norm > parameters.clip_norm) {
    const double factor = parameters.clip_norm / outcome.delta_norm;
    for (const auto [begin, end] : normed) {
      for (std::size_t i = begin; i < end; ++i)
        outcome.delta[i] = static_cast<float>(outcome.delta[i] * factor);
    }
  }
}

TrainingOutcome run_epochs(Model::Impl& model, std::span<const float> base, const TrainingData& data,
                           std::size_t samples, const TrainingParameters& parameters,
                           const std::atomic<bool>* stop) {
  const std::size_t batch_size = std::min<std::size_t>(parameters.batch_size, samples);
  BatchTensors batch(data, samples, batch_size);
  Optimizer optimizer({parameters.optimizer, parameters.learning_rate, parameters.momentum,
                       parameters.weight_decay, parameters.proximal_mu},
                      base.size());
  HeldEntries held(model.held);
  PrunedEntries pruned(model.layout, base, parameters);
  // Batch norm has no variance of one sample: the odd one at an epoch's end waits for the next order.
  const bool needs_two = batch_size > 1 && !ranges_of(model.layout, TensorKind::statistic).empty();
  TrainingOutcome outcome;
  outcome.samples = samples;
  std::vector<std::size_t> order(samples);
  std::iota(order.begin(), order.end(), std::size_t{0});
  Rng rng(parameters.seed);
  for (std::uint32_t epoch = 0; epoch < parameters.epochs && outcome.end == TrainingEnd::finished; ++epoch) {
    shuffle(std::span(order), rng);
    Tally tally;
    for (std::size_t begin = 0; begin < samples; begin += batch_size) {
      if (stop != nullptr && stop->load(std::memory_order_relaxed)) {
        outcome.end = TrainingEnd::stopped;
        break;
      }
      const auto rows =
          std::span<const std::size_t>(order).subspan(begin, std::min(batch_size, samples - begin));
      if (needs_two && rows.size() == 1) break;
      if (!take_step(model, batch, rows, optimizer, held, pruned, base, tally))
        return diverge(outcome, "the loss is not finite", slower(parameters));
      if (outcome.steps++ == 0) outcome.loss_first = tally.loss_sum / static_cast<double>(tally.samples);
    }
    if (tally.samples == 0) break;  // Stopped before the epoch's first step: the one before is the last.
    outcome.loss_last = tally.loss_sum / static_cast<double>(tally.samples);
    outcome.accuracy = static_cast<double>(tally.correct) / static_cast<double>(tally.samples);
  }
  pruned.reveal(model.weights_span());
  finish(outcome, model.weights_span(), base, model.layout, parameters);
  return outcome;
}

}  // namespace

bool hides_pruned_weights(const PruningPlan& plan, const ParameterLayout& layout) {
  return plan.sparsity > 0 && !ranges_of(layout, TensorKind::statistic).empty();
}

Result<TrainingOutcome> train(Model& model, std::span<const float> base_weights, const TrainingData& data,
                              const TrainingParameters& parameters, const std::atomic<bool>* stop) {
  const Result<std::size_t> samples = check_training(model, base_weights, data, parameters);
  if (!samples) return std::unexpected(samples.error());
  return catch_torch("training", [&]() -> Result<TrainingOutcome> {
    const at::AutoGradMode with_gradients(true);
    const PlainExecution plain;
    if (Status status = model.set_weights(base_weights); !status) return std::unexpected(status.error());
    const torchscript::TrainingMode mode(model.impl(), parameters.seed);
    std::ranges::fill(model.impl().gradient_span(), 0.0F);  // What an exception in an earlier call left.
    return run_epochs(model.impl(), base_weights, data, *samples, parameters, stop);
  });
}

}  // namespace rivulet
