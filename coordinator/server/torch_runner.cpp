#include "coordinator/server/torch_runner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "models/runtime/calibration.h"
#include "models/runtime/engine_choice.h"
#include "models/runtime/evaluation.h"
#include "models/runtime/inference.h"
#include "models/runtime/model.h"
#include "models/runtime/preprocessing.h"
#include "models/runtime/profile/measure.h"
#include "models/runtime/profile/meter.h"
#include "models/runtime/release_model.h"

namespace rivulet::coordinator {
namespace {

/// For activation ranges more samples add little, and each costs a pass in float.
constexpr std::size_t calibration_samples_max = 500;

/// Samples from all over the data.
std::vector<float> some_of(const ScoringData& data, std::size_t input_size) {
  const std::size_t count = data.inputs.size() / input_size;
  const std::size_t taken = std::min(count, calibration_samples_max);
  std::vector<float> out;
  out.reserve(taken * input_size);
  for (std::size_t i = 0; i < taken; ++i) {
    const auto begin = data.inputs.begin() + static_cast<std::ptrdiff_t>(i * count / taken * input_size);
    out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(input_size));
  }
  return out;
}

/// Static int8 with these ranges; without any dynamic int8.
EngineSetup int8_setup(const ActivationRanges& ranges) {
  const EngineKind kind = ranges.values.empty() ? EngineKind::int8_dynamic : EngineKind::int8_static;
  return {{kind, int8_backends().at(0), activation_bits_of_cpu()}, ranges};
}

/// What nodes would see of a model, engine and all.
Result<Metrics> score_predictions(const InferenceModel& model, const ScoringData& data,
                                  RegressionLoss loss_kind) {
  const auto predictions = model.infer_batch(data.inputs);
  if (!predictions) return std::unexpected(predictions.error());
  if (model.spec().task == TaskKind::regression && data.targets.size() != predictions->size())
    return fail(Errc::invalid, "the samples of a regression have no values to score it on");
  double right = 0, loss = 0;
  for (std::size_t i = 0; i < predictions->size(); ++i) {
    const Prediction& prediction = (*predictions)[i];
    if (model.spec().task == TaskKind::classification) {
      const std::int64_t label = data.labels[i];
      right += prediction.class_index == label ? 1 : 0;
      loss -= std::log(std::max(prediction.probabilities[static_cast<std::size_t>(label)],
                                std::numeric_limits<float>::min()));
    } else if (model.spec().task == TaskKind::regression) {
      loss += loss_of(loss_kind, static_cast<double>(prediction.value.front()) - data.targets[i]);
    } else {
      loss += prediction.value.front();
    }
  }
  const auto count = static_cast<double>(predictions->size());
  return Metrics{right / count, loss / count, predictions->size()};
}

class TorchRunner final : public ModelRunner {
 public:
  Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                     std::span<const float> inputs) override {
    // By the network as it is: what an optimization gets wrong must not become the truth for every node.
    return reference_answers(inference_spec(release), weights, inputs);
  }

  Result<std::optional<Int8Outcome>> run_in_int8(const Release& release, std::span<const float> weights,
                                                 const ScoringData& holdout,
                                                 const ScoringData* test) override {
    const std::vector<Int8Backend> backends = int8_backends();
    if (backends.empty()) return std::nullopt;
    const InferenceSpec spec = inference_spec(release);
    const auto found = calibrate(spec, weights, some_of(holdout, release.architecture.input_size()));
    ActivationRanges ranges = found.value_or(ActivationRanges{});
    const auto model = InferenceModel::load(spec, weights, int8_setup(ranges));
    if (!model) return std::unexpected(found ? model.error() : found.error());
    const auto known = model->infer_batch(release.known_inputs);
    if (!known) return std::unexpected(known.error());
    const auto on_holdout = score_predictions(*model, holdout, release.loss);
    if (!on_holdout) return std::unexpected(on_holdout.error());
    Int8Outcome outcome{std::move(ranges), answers_of(release.task, *known), *on_holdout, std::nullopt};
    if (test != nullptr) {
      const auto on_test = score_predictions(*model, *test, release.loss);
      if (!on_test) return std::unexpected(on_test.error());
      outcome.test = *on_test;
    }
    return outcome;
  }

  Result<Metrics> score(const Release& release, std::span<const float> weights,
                        const ScoringData& data) override {
    if (Status status = load(release); !status) return std::unexpected(status.error());
    if (Status status = model_->set_weights(weights); !status) return std::unexpected(status.error());
    const auto preprocessor = Preprocessor::make(release.preprocessing, release.architecture.input_shape);
    if (!preprocessor) return std::unexpected(preprocessor.error());
    std::vector<float> inputs = data.inputs;
    preprocessor->apply(inputs);
    const auto evaluation =
        release.task == TaskKind::classification
            ? evaluate(*model_, inputs, data.labels)
            : evaluate_values(*model_, inputs, release.task == TaskKind::anomaly ? inputs : data.targets,
                              nullptr, release.loss);
    if (!evaluation && evaluation.error().code == Errc::corrupt) {
      // An answer that is no number says enough of a model: that it was scored, and what it is worth.
      return Metrics{0, std::numeric_limits<double>::quiet_NaN(), data.labels.size()};
    }
    if (!evaluation) return std::unexpected(evaluation.error());
    return Metrics{evaluation->accuracy(), evaluation->mean_loss(), evaluation->samples};
  }

  /// The network of a release is the same in all of its versions: it is timed once.
  Result<std::optional<VariantCost>> cost(const Release& release, std::span<const float> weights,
                                          const ActivationRanges* ranges) override {
    const std::pair key{release_id(encode(release)), ranges != nullptr};
    if (const auto known = costs_.find(key); known != costs_.end()) return known->second;
    EngineSetup setup;
    if (ranges != nullptr) setup = int8_setup(*ranges);
    const auto model = InferenceModel::load(inference_spec(release), weights, setup);
    if (!model) return std::unexpected(model.error());
    const auto sample = std::span(release.known_inputs).first(model->input_size());
    const auto time = measure_latency(*model, sample, {}, steady_stopwatch());
    if (!time) return std::unexpected(time.error());
    const Metered metered = meter([&] { std::ignore = model->infer(sample); });
    costs_[key] = {metered.tensor_bytes_max, *time};
    return costs_[key];
  }

  std::optional<double> own_int8_time(const Release& release, std::span<const float> weights) override {
    const ReleaseId id = release_id(encode(release));
    const auto known = own_times_.find(id);
    return known != own_times_.end() ? known->second : own_times_[id] = time_own_int8(release, weights);
  }

  [[nodiscard]] std::string reference() const override { return processor_name(); }

 private:
  static std::optional<double> time_own_int8(const Release& release, std::span<const float> weights) {
    if (int8_backends().empty()) return std::nullopt;
    const InferenceSpec spec = inference_spec(release);
    const auto ranges = calibrate(spec, weights, release.known_inputs).value_or(ActivationRanges{});
    const auto model = InferenceModel::load(spec, weights, int8_setup(ranges));
    if (!model) return std::nullopt;
    const auto sample = std::span(release.known_inputs).first(model->input_size());
    const auto time = measure_latency(*model, sample, {}, steady_stopwatch());
    return time ? std::optional(*time) : std::nullopt;
  }

  Status load(const Release& release) {
    if (model_ && is_model_of(*model_, release)) return {};
    auto model = build_model(release);
    if (!model) return std::unexpected(model.error());
    model_.emplace(std::move(*model));
    return {};
  }

  std::optional<Model> model_;
  std::map<std::pair<ReleaseId, bool>, VariantCost> costs_;  // by whether in int8
  std::map<ReleaseId, std::optional<double>> own_times_;
};

}  // namespace

std::unique_ptr<ModelRunner> make_torch_runner() { return std::make_unique<TorchRunner>(); }

}  // namespace rivulet::coordinator
