#include "node/daemon/torch_engine.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "link/log.h"
#include "models/dataset/csv.h"
#include "models/dataset/dataset.h"
#include "models/runtime/engine_choice.h"
#include "models/runtime/evaluation.h"
#include "models/runtime/local_statistics.h"
#include "models/runtime/preprocessing.h"
#include "models/runtime/release_model.h"
#include "models/runtime/training_plan.h"
#include "protocol/rng.h"

namespace rivulet::node {
namespace {

Error with_reason(Error error, Reason reason) {
  if (error.reason == Reason::none) error.reason = reason;
  return error;
}

}  // namespace

Status TorchEngine::read(const Release& release, Split split, Data& data) {
  const auto preprocessor = Preprocessor::make(release.preprocessing, release.architecture.input_shape);
  if (!preprocessor) return std::unexpected(preprocessor.error());
  const std::size_t size = preprocessor->input_size();
  const SampleFit fit = fit_of(release);
  const auto skip = [&](const SampleView& sample) {
    const Status fits = fit.check(sample.inputs, sample.label);
    if (++data.skipped == 1 && !fits) data.why = fits.error().detail;
    return true;
  };
  const auto take = [&](const SampleView& sample) {
    if (sample.inputs.size() != size) return skip(sample);
    if (release.task == TaskKind::classification) {
      const auto label = class_index(release.classes, *sample.label);
      if (!label) return skip(sample);
      data.labels.push_back(*label);
    } else if (release.task == TaskKind::regression) {
      const auto target = parse_float(*sample.label);
      if (!target || release.architecture.outputs != 1) return skip(sample);
      data.targets.push_back(*target);
    }
    data.inputs.insert(data.inputs.end(), sample.inputs.begin(), sample.inputs.end());
    ++data.count;
    return true;
  };
  // What was read is of no use to a comparison that is stopped.
  const auto take_one = [&](const SampleView& sample) {
    return take(sample) && (stop_ == nullptr || !stop_->load(std::memory_order_relaxed));
  };
  // An anomaly model learns what is normal, from inputs alone.
  auto status = samples_.visit(split, take_one, release.task == TaskKind::anomaly);
  if (data.skipped > 0) metrics_.samples_skipped(data.skipped);
  preprocessor->apply(data.inputs);
  return status;
}

Result<TorchEngine::Data> TorchEngine::load(const Release& release, Split split) {
  Data data;
  if (const auto status = read(release, split, data); !status) return std::unexpected(status.error());
  return data;
}

Result<Model*> TorchEngine::model_of(const Release& release) {
  if (!model_ || !is_model_of(*model_, release)) {
    model_.reset();
    auto built = build_model(release);
    if (!built) return std::unexpected(built.error());
    model_.emplace(std::move(*built));
  }
  return &*model_;
}

Result<TrainingResult> TorchEngine::train(const Release& release, std::span<const float> base,
                                          const message::TrainingPlan& plan, const std::atomic<bool>& stop) {
  const auto parameters = training_parameters(plan, release);
  if (!parameters) return std::unexpected(parameters.error());
  const auto data = load(release, Split::training);
  if (!data) return std::unexpected(with_reason(data.error(), Reason::training_failed));
  if (data->count == 0) {
    const std::string why =
        data->skipped == 0 ? "none is stored" : fmt::format("of {}, the first: {}", data->skipped, data->why);
    return fail(Errc::invalid, fmt::format("no sample to train {} on: {}", release.name, why),
                Reason::too_few_samples);
  }
  const auto model = model_of(release);
  if (!model) return std::unexpected(with_reason(model.error(), Reason::training_failed));
  auto outcome = rivulet::train(**model, base,
                                {.inputs = data->inputs,
                                 .labels = data->labels,
                                 .targets = data->targets,
                                 .task = release.task,
                                 .loss = release.loss},
                                *parameters, &stop);
  if (!outcome) return std::unexpected(with_reason(outcome.error(), Reason::training_failed));
  if (outcome->end == TrainingEnd::stopped) return fail(Errc::cancelled, "the training was stopped");
  if (outcome->end == TrainingEnd::diverged) {
    return fail(Errc::refused, outcome->detail, Reason::training_diverged);
  }
  return TrainingResult{.delta = std::move(outcome->delta),
                        .samples = outcome->samples,
                        .loss_first = outcome->loss_first,
                        .loss_last = outcome->loss_last};
}

Result<std::vector<float>> TorchEngine::own_samples(const Release& release, Split split,
                                                    std::size_t samples_max) {
  const std::size_t size = release.architecture.input_size();
  std::vector<float> inputs;
  Rng rng(derive_seed(0, static_cast<std::uint64_t>(split)));
  std::uint64_t seen = 0;
  // Algorithm R (Vitter 1985): what came first need not be what comes today.
  const auto take = [&](const SampleView& sample) {
    if (sample.inputs.size() != size) return true;
    const std::uint64_t place = ++seen <= samples_max ? seen - 1 : uniform_below(rng, seen);
    if (seen <= samples_max) {
      inputs.insert(inputs.end(), sample.inputs.begin(), sample.inputs.end());
    } else if (place < samples_max) {
      std::ranges::copy(sample.inputs, inputs.begin() + static_cast<std::ptrdiff_t>(place * size));
    }
    return true;
  };
  const auto status = samples_.visit(split, take, /*unlabelled=*/true);
  if (!status) return std::unexpected(status.error());
  return inputs;
}

Result<HoldoutScore> TorchEngine::score(const Release& release, std::span<const float> weights) {
  const ReleaseId id = release_id(encode(release));
  if (!holdout_ || holdout_->release != id) {
    auto data = load(release, Split::holdout);
    if (!data) return std::unexpected(with_reason(data.error(), Reason::too_few_samples));
    holdout_ = Holdout{id, std::move(*data)};
  }
  const Data& data = holdout_->data;
  if (data.count == 0) return HoldoutScore{};
  const auto model = model_of(release);
  if (!model) return std::unexpected(with_reason(model.error(), Reason::not_loadable));
  if (const auto status = (*model)->set_weights(weights); !status) return std::unexpected(status.error());
  auto evaluation = release.task == TaskKind::classification
                        ? evaluate(**model, data.inputs, data.labels, stop_)
                        : evaluate_values(**model, data.inputs,
                                          release.task == TaskKind::anomaly ? data.inputs : data.targets,
                                          stop_, release.loss);
  if (!evaluation) return std::unexpected(evaluation.error());
  HoldoutScore score{.right = std::move(evaluation->right),
                     .loss_sum = evaluation->loss_sum,
                     .losses = std::move(evaluation->losses)};
  score.right.resize(data.count, 0);  // Values are near or far, not right; their losses tell.
  return score;
}

Result<std::vector<float>> TorchEngine::localize(const Release& release, std::span<const float> weights) {
  Data data;
  if (const auto status = read(release, Split::training, data); !status) {
    log_event(LogLevel::error, "samples_unreadable", {{"detail", status.error().detail}});
  }
  const auto model = model_of(release);
  if (!model) return std::unexpected(with_reason(model.error(), Reason::not_loadable));
  return with_local_statistics(**model, weights, data.inputs);
}

Result<std::vector<float>> TorchEngine::answers(const Release& release, std::span<const float> weights,
                                                std::span<const float> inputs) {
  return reference_answers(inference_spec(release), weights, inputs);
}

}  // namespace rivulet::node
