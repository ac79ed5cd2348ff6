// How long one sample takes in int8 in ratio to fp32: to the TorchScript module as a user has it, under
// LibTorch's own executor, and to the same frozen and optimized for inference. Ours is timed with all that a
// request costs (checks, preprocessing, softmax), LibTorch's is the bare forward pass. Below 1 is faster.
// Medians over bursts of calls in turns, one thread, batch 1. The bars: on a CPU with VNNI int8-static takes
// at most 1/3 of the script and 1/2.3 of optimized for two of the networks, and for all of them the fastest
// of our engines, which a node takes, is no slower than optimized.
#include <spdlog/fmt/fmt.h>
#include <torch/script.h>

#include <cstdio>
#include <sstream>
#include <vector>

#include "bench/contenders.h"
#include "bench/verdict.h"
#include "models/runtime/architectures.h"
#include "models/runtime/calibration.h"
#include "models/runtime/engine_choice.h"
#include "models/runtime/local_statistics.h"
#include "models/runtime/model.h"
#include "models/runtime/runtime.h"
#include "protocol/rng.h"

using namespace rivulet;

namespace {

constexpr int rounds = 30;
constexpr int burst = 20;
constexpr std::size_t calibration_samples = 256;

struct Bars {
  double to_script = 0;  // of int8-static, at most; 0: no bar
  double to_optimized = 0;
};
constexpr Bars faster{1.0 / 3, 1 / 2.3};
Verdict verdict;

void judge(std::span<const Contender> contenders, const Bars& bars) {
  const double script = median(contenders[0].times), optimized = median(contenders[1].times);
  double best = 0, int8 = 0;
  for (const Contender& ours : contenders.subspan(2)) {
    const double time = median(ours.times);
    if (best == 0 || time < best) best = time;
    if (ours.name.starts_with("int8-static") && (int8 == 0 || time < int8)) int8 = time;
  }
  if (bars.to_script > 0 && activation_bits_of_cpu() == ActivationBits::eight) {
    verdict.bar("int8-static / script", int8 / script, bars.to_script);
    verdict.bar("int8-static / optimized", int8 / optimized, bars.to_optimized);
  }
  verdict.bar("the fastest of our engines / optimized", best / optimized, timing_noise);
}

void compare(const Architecture& architecture, const Bars& bars = {}) {
  Model model = Model::build(architecture).value();
  const std::vector<float> initial = model.initial_weights(1);
  const InferenceSpec spec{architecture, model.layout(), TaskKind::classification, {}, {}};
  Rng rng(1);
  std::vector<float> samples(calibration_samples * architecture.input_size());
  for (float& value : samples) value = static_cast<float>(uniform_unit(rng));
  // Batch norm with statistics of the samples: without, a deep network answers nearly nothing.
  const std::vector<float> weights = with_local_statistics(model, initial, samples).value();
  const std::vector<float> sample(samples.begin(),
                                  samples.begin() + static_cast<std::ptrdiff_t>(architecture.input_size()));

  std::istringstream file{std::string(text_of(model.to_torchscript().value()))};
  torch::jit::Module script = torch::jit::load(file);
  script.eval();
  torch::jit::Module frozen = torch::jit::freeze(script);
  torch::jit::Module optimized = torch::jit::optimize_for_inference(frozen);
  const at::Tensor x = at::from_blob(const_cast<float*>(sample.data()),
                                     {1, static_cast<std::int64_t>(sample.size())}, at::kFloat);
  const auto forward = [&x](torch::jit::Module& module) {
    return [&x, &module] {
      const c10::InferenceMode inference;
      module.forward({x});
    };
  };
  std::vector<Contender> contenders = {{"LibTorch fp32 script", forward(script)},
                                       {"LibTorch fp32 optimized", forward(optimized)}};
  const Result<ActivationRanges> ranges = calibrate(spec, weights, samples);
  std::vector<InferenceModel> models;
  const std::vector<Engine> engines = candidate_engines();
  models.reserve(engines.size());
  for (const Engine& engine : engines) {
    auto loaded = InferenceModel::load(spec, weights, {engine, ranges.value_or(ActivationRanges{})});
    if (!loaded) {
      fmt::print("{}: {} is not possible: {}\n", architecture.kind, name(engine), loaded.error().detail);
      continue;
    }
    models.push_back(std::move(*loaded));
    contenders.push_back(
        {name(engine), [&served = models.back(), &sample] { served.infer(sample).value(); }});
  }
  take_turns(contenders, rounds, burst);
  const double to_script = median(contenders[0].times);
  const double to_optimized = median(contenders[1].times);
  for (const Contender& contender : contenders) {
    const double time = median(contender.times);
    fmt::print("{:<12} {:<26} {:8.1f} us   {:.3f} of script   {:.3f} of optimized\n", architecture.kind,
               contender.name, time, time / to_script, time / to_optimized);
  }
  judge(contenders, bars);
}

}  // namespace

int main() {
  use_one_thread();
  compare({.kind = "mcmahan_cnn", .input_shape = {1, 28, 28}, .outputs = 10}, faster);
  compare({.kind = "mlp", .hidden = {200, 200}, .input_shape = {784}, .outputs = 10});
  Architecture windows = default_architecture("cnn1d");
  windows.input_shape = {6, 128};
  windows.outputs = 6;
  compare(windows);
  Architecture deep = default_architecture("resnet18");
  deep.input_shape = {3, 32, 32};
  deep.outputs = 10;
  deep.width = 0.5;
  compare(deep);
  Architecture separable = default_architecture("mobilenet_v2");
  separable.input_shape = {3, 64, 64};
  separable.outputs = 10;
  separable.width = 0.5;
  compare(separable, faster);
  return verdict.all_held() ? 0 : 1;
}
