#include "models/runtime/training_checks.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>

namespace rivulet {
namespace {

Status check_parameters(const TrainingParameters& parameters) {
  if (parameters.epochs == 0) return fail(Errc::invalid, "training.epochs is 0; it takes at least 1");
  if (parameters.batch_size == 0) return fail(Errc::invalid, "training.batch_size is 0; it takes at least 1");
  if (!std::isfinite(parameters.learning_rate) || parameters.learning_rate <= 0)
    return fail(Errc::invalid,
                fmt::format("training.learning_rate is {}; it must be above 0", parameters.learning_rate));
  if (!(parameters.momentum >= 0 && parameters.momentum < 1))
    return fail(Errc::invalid,
                fmt::format("training.momentum is {}; it lies in [0, 1)", parameters.momentum));
  struct Named {
    const char* name;
    double value;
  };
  for (const Named& each :
       {Named{"weight_decay", parameters.weight_decay}, Named{"proximal_mu", parameters.proximal_mu},
        Named{"clip_norm", parameters.clip_norm}})
    if (!std::isfinite(each.value) || each.value < 0)
      return fail(Errc::invalid,
                  fmt::format("training.{} is {}; it must be at least 0", each.name, each.value));
  return {};
}

Status check_labels(std::span<const std::int64_t> labels, std::size_t samples, std::int64_t outputs) {
  if (labels.size() != samples)
    return fail(Errc::invalid,
                fmt::format("{} samples have {} labels; each needs one", samples, labels.size()));
  for (std::size_t i = 0; i < samples; ++i)
    if (labels[i] < 0 || labels[i] >= outputs)
      return fail(Errc::invalid, fmt::format("the label of sample {} is {}; the model has classes 0 to {}", i,
                                             labels[i], outputs - 1));
  return {};
}

Status check_finite(const char* what, std::span<const float> values, std::size_t per_sample) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      return fail(Errc::invalid, fmt::format("{} {} of sample {} is not finite; leave the sample out", what,
                                             i % per_sample, i / per_sample));
  return {};
}

Status check_targets(const TrainingData& data, std::size_t samples, std::size_t input_size,
                     std::size_t outputs) {
  if (data.task == TaskKind::anomaly) {
    if (outputs == input_size) return {};
    return fail(Errc::invalid,
                fmt::format("an anomaly model rebuilds its input: it needs {} outputs, but has {}",
                            input_size, outputs));
  }
  if (data.targets.size() != samples * outputs)
    return fail(Errc::invalid, fmt::format("{} samples of {} target values are {}, but {} were given",
                                           samples, outputs, samples * outputs, data.targets.size()));
  return check_finite("target", data.targets, outputs);
}

Status check_teacher(const SoftTargets& teacher, std::size_t samples, std::size_t outputs) {
  if (!std::isfinite(teacher.temperature) || teacher.temperature <= 0)
    return fail(Errc::invalid, fmt::format("the temperature is {}; it must be above 0", teacher.temperature));
  if (!(teacher.weight >= 0 && teacher.weight <= 1))
    return fail(Errc::invalid,
                fmt::format("the weight of the soft loss is {}; it lies in [0, 1]", teacher.weight));
  if (teacher.outputs.size() != samples * outputs)
    return fail(Errc::invalid,
                fmt::format("{} samples of {} answers of the teacher are {}, but {} were given", samples,
                            outputs, samples * outputs, teacher.outputs.size()));
  return check_finite("the teacher's answer", teacher.outputs, outputs);
}

/// Labels or targets, which a student with a teacher may lack.
Status check_wanted(const TrainingData& data, std::size_t samples, std::size_t input_size,
                    std::int64_t outputs) {
  if (data.task == TaskKind::classification) {
    if (data.teacher && data.labels.empty()) return {};
    return check_labels(data.labels, samples, outputs);
  }
  if (data.teacher && data.targets.empty() && data.task == TaskKind::regression) return {};
  return check_targets(data, samples, input_size, static_cast<std::size_t>(outputs));
}

}  // namespace

Result<std::size_t> check_training(const Model& model, std::span<const float> base_weights,
                                   const TrainingData& data, const TrainingParameters& parameters) {
  if (Status status = check_parameters(parameters); !status) return std::unexpected(status.error());
  if (base_weights.size() != model.size())
    return fail(Errc::invalid, fmt::format("the model has {} weights, but the base has {}", model.size(),
                                           base_weights.size()));
  const std::size_t input_size = model.architecture().input_size();
  if (data.inputs.empty()) return fail(Errc::invalid, "there are no samples to train on");
  if (data.inputs.size() % input_size != 0)
    return fail(Errc::invalid, fmt::format("{} input numbers are no whole number of samples of {}",
                                           data.inputs.size(), input_size));
  const std::size_t samples = data.inputs.size() / input_size;
  if (Status status = check_finite("input", data.inputs, input_size); !status)
    return std::unexpected(status.error());
  const std::int64_t outputs = model.architecture().outputs;
  Status status = check_wanted(data, samples, input_size, outputs);
  if (status && data.teacher)
    status = check_teacher(*data.teacher, samples, static_cast<std::size_t>(outputs));
  if (!status) return std::unexpected(status.error());
  return samples;
}

}  // namespace rivulet
