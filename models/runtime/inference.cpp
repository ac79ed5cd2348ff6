#include "models/runtime/inference.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <cmath>
#include <optional>

#include "models/runtime/architectures.h"
#include "models/runtime/engine_module.h"
#include "models/runtime/evaluation.h"
#include "models/runtime/input_tensor.h"
#include "models/runtime/int8/packing.h"
#include "models/runtime/model_impl.h"
#include "models/runtime/preprocessing.h"

namespace rivulet {
namespace {

bool all_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

Prediction make_prediction(TaskKind task, std::span<const float> input, std::span<const float> answer) {
  Prediction prediction;
  switch (task) {
    case TaskKind::classification:
      prediction.class_index = std::ranges::max_element(answer) - answer.begin();
      prediction.probabilities.assign(answer.begin(), answer.end());
      softmax(prediction.probabilities);
      break;
    case TaskKind::regression: prediction.value.assign(answer.begin(), answer.end()); break;
    case TaskKind::anomaly: {
      double squares = 0;
      for (std::size_t i = 0; i < answer.size(); ++i) {
        const double error = static_cast<double>(answer[i]) - input[i];
        squares += error * error;
      }
      prediction.value.push_back(static_cast<float>(squares / static_cast<double>(answer.size())));
      break;
    }
  }
  return prediction;
}

}  // namespace

Status check(const InferenceSpec& spec, std::span<const float> weights) {
  if (spec.architecture.kind != user_architecture) {  // Whose layout is known once its graph is loaded.
    const Result<Network> network = network_of(spec.architecture);
    if (!network) return std::unexpected(network.error());
    if (network->layout() != spec.layout)
      return fail(Errc::invalid,
                  "the layout is not that of the architecture: the release contradicts itself");
  }
  if (weights.size() != spec.layout.size())
    return fail(Errc::invalid, fmt::format("the model has {} weights, but {} were given", spec.layout.size(),
                                           weights.size()));
  if (!all_finite(weights)) return fail(Errc::corrupt, "a weight of the model is not finite");
  const auto outputs = static_cast<std::size_t>(spec.architecture.outputs);
  if (!spec.classes.empty() && spec.classes.size() != outputs)
    return fail(Errc::invalid, fmt::format("{} class names for {} outputs", spec.classes.size(), outputs));
  if (spec.task == TaskKind::anomaly && outputs != spec.architecture.input_size())
    return fail(Errc::invalid,
                fmt::format("an anomaly model rebuilds its input: it needs {} outputs, but has {}",
                            spec.architecture.input_size(), outputs));
  return {};
}

struct InferenceModel::Impl {
  InferenceSpec spec;
  Preprocessor preprocessor;
  Engine engine;
  mutable EngineModules modules;  // Running one is thread-safe, though LibTorch has not marked it const.

  /// @param raw [n * input_size], checked; n at least 1 and at most modules.batch_max.
  Status predict(std::span<const float> raw, std::vector<Prediction>& predictions) const {
    std::vector<float> inputs(raw.begin(), raw.end());
    preprocessor.apply(inputs);
    const std::size_t input_size = preprocessor.input_size();
    const std::size_t samples = raw.size() / input_size;
    const auto outputs = static_cast<std::size_t>(spec.architecture.outputs);
    return catch_torch("running the network", [&]() -> Status {
      const c10::InferenceMode inference;
      const PlainExecution plain;
      const at::Tensor x = input_tensor(inputs, samples);
      torch::jit::Module& module = samples > 1 && modules.batch ? *modules.batch : modules.single;
      const at::Tensor y = module.forward({x}).toTensor().contiguous();
      if (y.numel() != static_cast<std::int64_t>(samples * outputs))
        return fail(Errc::invalid, fmt::format("the network answers {} numbers to {} samples of {} outputs",
                                               y.numel(), samples, outputs));
      const std::span<const float> answers(y.data_ptr<float>(), samples * outputs);
      for (std::size_t i = 0; i < samples; ++i) {
        const auto answer = answers.subspan(i * outputs, outputs);
        Prediction prediction = make_prediction(
            spec.task, std::span<const float>(inputs).subspan(i * input_size, input_size), answer);
        if (!all_finite(answer) || !all_finite(prediction.value))
          return fail(Errc::corrupt,
                      fmt::format("the model's answer to sample {} is not finite", predictions.size()));
        predictions.push_back(std::move(prediction));
      }
      return {};
    });
  }
};

InferenceModel::InferenceModel(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
InferenceModel::InferenceModel(InferenceModel&&) noexcept = default;
InferenceModel& InferenceModel::operator=(InferenceModel&&) noexcept = default;
InferenceModel::~InferenceModel() = default;

const InferenceSpec& InferenceModel::spec() const { return impl_->spec; }
const Engine& InferenceModel::engine() const { return impl_->engine; }
std::size_t InferenceModel::input_size() const { return impl_->preprocessor.input_size(); }

Result<InferenceModel> InferenceModel::load(const InferenceSpec& spec, std::span<const float> weights,
                                            const EngineSetup& setup) {
  if (Status status = rivulet::check(spec, weights); !status) return std::unexpected(status.error());
  Result<Preprocessor> preprocessor = Preprocessor::make(spec.preprocessing, spec.architecture.input_shape);
  if (!preprocessor) return std::unexpected(preprocessor.error());
  Result<EngineModules> modules = make_engine_modules(spec, weights, setup);
  if (!modules) return std::unexpected(modules.error());
  auto impl =
      std::make_unique<const Impl>(Impl{spec, std::move(*preprocessor), setup.engine, std::move(*modules)});
  // Requests before any caller's: they compile what is compiled lazily, settle for which shape each copy is
  // prepared, and show a model that overflows.
  std::vector<Prediction> first;
  const std::vector<float> zeros(impl->preprocessor.input_size() *
                                 (impl->modules.batch ? inference_batch : 1));
  for (const std::size_t numbers : {impl->preprocessor.input_size(), zeros.size()})
    if (Status status = impl->predict(std::span(zeros).first(numbers), first); !status) {
      // What the passes of LibTorch made may fail only when it runs.
      if (is_int8(setup.engine.kind) && status.error().code == Errc::internal)
        status.error().code = Errc::unsupported;
      return std::unexpected(status.error());
    }
  int8::free_storage(impl->modules.unpacked);
  impl->modules.unpacked.clear();
#if defined(__GLIBC__)
  ::malloc_trim(0);  // Building takes several times the memory of what is built.
#endif
  return InferenceModel(std::move(impl));
}

Status InferenceModel::check(std::span<const float> raw_sample) const {
  if (raw_sample.size() != input_size())
    return fail(Errc::invalid, fmt::format("the model expects {} numbers a sample, but got {}", input_size(),
                                           raw_sample.size()));
  for (std::size_t i = 0; i < raw_sample.size(); ++i)
    if (!std::isfinite(raw_sample[i]))
      return fail(Errc::invalid,
                  fmt::format("number {} of the sample is {}; it must be finite", i, raw_sample[i]));
  return {};
}

Result<Prediction> InferenceModel::infer(std::span<const float> raw_sample) const {
  if (Status status = check(raw_sample); !status) return std::unexpected(status.error());
  std::vector<Prediction> predictions;
  if (Status status = impl_->predict(raw_sample, predictions); !status)
    return std::unexpected(status.error());
  return std::move(predictions.front());
}

Result<std::vector<Prediction>> InferenceModel::infer_batch(std::span<const float> raw_samples) const {
  const std::size_t size = input_size();
  if (raw_samples.size() % size != 0)
    return fail(Errc::invalid,
                fmt::format("{} numbers are no whole number of samples of {}", raw_samples.size(), size));
  const std::size_t samples = raw_samples.size() / size;
  for (std::size_t i = 0; i < samples; ++i)
    if (Status status = check(raw_samples.subspan(i * size, size)); !status)
      return fail_at(fmt::format("sample {}", i), status.error());
  std::vector<Prediction> predictions;
  predictions.reserve(samples);
  const std::size_t batch_max = impl_->modules.batch_max;
  for (std::size_t begin = 0; begin < samples; begin += batch_max) {
    const std::size_t batch = std::min(batch_max, samples - begin);
    if (Status status = impl_->predict(raw_samples.subspan(begin * size, batch * size), predictions); !status)
      return std::unexpected(status.error());
  }
  return predictions;
}

}  // namespace rivulet
