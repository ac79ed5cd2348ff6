#include "models/runtime/calibration.h"

#include <algorithm>
#include <cmath>

#include "models/runtime/engine_module.h"
#include "models/runtime/input_tensor.h"
#include "models/runtime/int8/module_int8.h"
#include "models/runtime/model_impl.h"
#include "models/runtime/preprocessing.h"

namespace rivulet {

Result<ActivationRanges> calibrate(const InferenceSpec& spec, std::span<const float> weights,
                                   std::span<const float> raw_samples) {
  if (Status status = check(spec, weights); !status) return std::unexpected(status.error());
  const Result<Preprocessor> preprocessor =
      Preprocessor::make(spec.preprocessing, spec.architecture.input_shape);
  if (!preprocessor) return std::unexpected(preprocessor.error());
  const std::size_t size = preprocessor->input_size();
  if (raw_samples.empty() || raw_samples.size() % size != 0)
    return fail(Errc::invalid,
                fmt::format("calibration needs whole samples of {} numbers, but got {} numbers", size,
                            raw_samples.size()));
  if (!std::ranges::all_of(raw_samples, [](float value) { return std::isfinite(value); }))
    return fail(Errc::invalid, "a number of the calibration samples is not finite");
  std::vector<float> inputs(raw_samples.begin(), raw_samples.end());
  preprocessor->apply(inputs);
  std::vector<at::Tensor> batches;
  for (std::size_t begin = 0; begin < inputs.size(); begin += inference_batch * size) {
    const std::size_t samples = std::min(inference_batch, inputs.size() / size - begin / size);
    batches.push_back(input_tensor(std::span(inputs).subspan(begin, samples * size), samples));
  }
  return int8::calibrate([&] { return make_float_module(spec, weights); }, batches);
}

}  // namespace rivulet
