#include "models/runtime/inference.h"

#include <algorithm>
#include <cmath>

#include "models/runtime/architectures.h"
#include "models/runtime/evaluation.h"
#include "models/runtime/model_impl.h"
#include "models/runtime/preprocessing.h"

namespace rivulet {
namespace {

constexpr std::size_t batch_samples = 256;

bool all_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

Status check_spec(const InferenceSpec& spec, const Network& network, std::span<const float> weights) {
  if (network.layout() != spec.layout)
    return fail(Errc::invalid, "the layout is not that of the architecture: the release contradicts itself");
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

/// The network with its weights as constants, which LibTorch may then lay out and fuse as it likes.
torch::jit::Module make_frozen(const InferenceSpec& spec, const Network& network,
                               std::span<const float> weights) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> tensors;
  std::size_t offset = 0;
  for (const TensorSpec& tensor : spec.layout.tensors) {
    tensors.push_back(at::empty(tensor.shape, at::kFloat));
    std::ranges::copy(weights.subspan(offset, tensor.size()), tensors.back().data_ptr<float>());
    offset += tensor.size();
  }
  torch::jit::Module module = make_script_module(network, tensors);
  torch::jit::Module frozen = torch::jit::freeze(module);
  return torch::jit::optimize_for_inference(frozen);
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

struct InferenceModel::Impl {
  InferenceSpec spec;
  Preprocessor preprocessor;
  // Running a module is thread-safe, though LibTorch has not marked it const.
  mutable torch::jit::Module module;

  /// @param raw [n * input_size], checked; n at least 1 and at most batch_samples.
  Status predict(std::span<const float> raw, std::vector<Prediction>& predictions) const {
    std::vector<float> inputs(raw.begin(), raw.end());
    preprocessor.apply(inputs);
    const std::size_t input_size = preprocessor.input_size();
    const std::size_t samples = raw.size() / input_size;
    const auto outputs = static_cast<std::size_t>(spec.architecture.outputs);
    return catch_torch("running the network", [&]() -> Status {
      const c10::InferenceMode inference;
      const PlainExecution plain;
      const at::Tensor x = at::from_blob(
          inputs.data(), {static_cast<std::int64_t>(samples), static_cast<std::int64_t>(input_size)},
          at::kFloat);
      const at::Tensor y = module.forward({x}).toTensor().contiguous();
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
std::size_t InferenceModel::input_size() const { return impl_->preprocessor.input_size(); }

Result<InferenceModel> InferenceModel::load(const InferenceSpec& spec, std::span<const float> weights) {
  const Result<Network> network = network_of(spec.architecture);
  if (!network) return std::unexpected(network.error());
  if (Status status = check_spec(spec, *network, weights); !status) return std::unexpected(status.error());
  Result<Preprocessor> preprocessor = Preprocessor::make(spec.preprocessing, spec.architecture.input_shape);
  if (!preprocessor) return std::unexpected(preprocessor.error());
  return catch_torch("loading the model", [&]() -> Result<InferenceModel> {
    auto impl = std::make_unique<const Impl>(
        Impl{spec, std::move(*preprocessor), make_frozen(spec, *network, weights)});
    // One request before any caller's: it compiles what is compiled lazily, and shows a model that overflows.
    const std::vector<float> zeros(impl->preprocessor.input_size());
    std::vector<Prediction> first;
    if (Status status = impl->predict(zeros, first); !status) return std::unexpected(status.error());
    return InferenceModel(std::move(impl));
  });
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
  for (std::size_t begin = 0; begin < samples; begin += batch_samples) {
    const std::size_t batch = std::min(batch_samples, samples - begin);
    if (Status status = impl_->predict(raw_samples.subspan(begin * size, batch * size), predictions); !status)
      return std::unexpected(status.error());
  }
  return predictions;
}

}  // namespace rivulet
