// How long our training takes in ratio to a plain torch::nn module with torch::optim::SGD on the same
// network, data and batch size, and what it costs to serve in ratio to torch::nn. Below 1 is faster.
// Medians of interleaved runs, one thread.
#include <spdlog/fmt/fmt.h>
#include <torch/torch.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <vector>

#include "bench/contenders.h"
#include "models/runtime/architectures.h"
#include "models/runtime/inference.h"
#include "models/runtime/runtime.h"
#include "models/runtime/training.h"
#include "protocol/rng.h"

using namespace rivulet;

namespace {

struct Workload {
  const char* name;
  Architecture architecture;
  std::function<torch::nn::Sequential()> make_peer;
  std::size_t samples;
  std::size_t batch_size;
  int repeats;
};

double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Median times of `ours` and `theirs`, run in turns so that a disturbance meets both.
double ratio(int repeats, const std::function<void()>& ours, const std::function<void()>& theirs) {
  ours();
  theirs();
  std::vector<double> our_times;
  std::vector<double> their_times;
  for (int i = 0; i < repeats; ++i) {
    our_times.push_back(seconds(ours));
    their_times.push_back(seconds(theirs));
  }
  return median(our_times) / median(their_times);
}

struct Samples {
  std::vector<float> inputs;
  std::vector<std::int64_t> labels;
};

Samples make_samples(const Workload& workload) {
  Rng rng(1);
  Samples samples;
  for (std::size_t i = 0; i < workload.samples * workload.architecture.input_size(); ++i)
    samples.inputs.push_back(static_cast<float>(uniform_unit(rng)));
  for (std::size_t i = 0; i < workload.samples; ++i)
    samples.labels.push_back(static_cast<std::int64_t>(uniform_below(rng, 10)));
  return samples;
}

double training_ratio(const Workload& workload, Samples& samples) {
  Model model = Model::build(workload.architecture).value();
  const std::vector<float> base = model.initial_weights(1);
  const TrainingParameters parameters{.batch_size = static_cast<std::uint32_t>(workload.batch_size),
                                      .learning_rate = 0.01};
  const auto ours = [&] {
    std::ignore = train(model, base, {samples.inputs, samples.labels}, parameters).value();
  };

  torch::nn::Sequential peer = workload.make_peer();
  torch::optim::SGD optimizer(peer->parameters(), torch::optim::SGDOptions(0.01));
  std::vector<std::int64_t> shape = workload.architecture.input_shape;
  shape.insert(shape.begin(), static_cast<std::int64_t>(workload.samples));
  const torch::Tensor inputs = torch::from_blob(samples.inputs.data(), shape);
  const torch::Tensor labels =
      torch::from_blob(samples.labels.data(), {static_cast<std::int64_t>(workload.samples)}, torch::kLong);
  const auto theirs = [&] {
    const torch::Tensor order = torch::randperm(static_cast<std::int64_t>(workload.samples));
    for (const torch::Tensor& rows : order.split(static_cast<std::int64_t>(workload.batch_size))) {
      optimizer.zero_grad();
      torch::nn::functional::cross_entropy(peer->forward(inputs.index_select(0, rows)),
                                           labels.index_select(0, rows))
          .backward();
      optimizer.step();
    }
  };
  return ratio(workload.repeats, ours, theirs);
}

double serving_ratio(const Workload& workload, Samples& samples) {
  const ParameterLayout layout = layout_of(workload.architecture).value();
  const InferenceModel served =
      InferenceModel::load({workload.architecture, layout, TaskKind::classification, {}, {}},
                           initial_weights(layout, 1))
          .value();
  torch::nn::Sequential peer = workload.make_peer();
  std::vector<std::int64_t> shape = workload.architecture.input_shape;
  shape.insert(shape.begin(), 1);
  const std::size_t size = served.input_size();
  const auto each = [&](const std::function<void(std::span<float>)>& answer) {
    for (std::size_t i = 0; i < workload.samples; ++i)
      answer(std::span(samples.inputs).subspan(i * size, size));
  };
  return ratio(
      workload.repeats,
      [&] { each([&](std::span<float> sample) { std::ignore = served.infer(sample).value(); }); },
      [&] {
        const torch::NoGradGuard no_grad;
        each([&](std::span<float> sample) {
          std::ignore = torch::softmax(peer->forward(torch::from_blob(sample.data(), shape)), 1);
        });
      });
}

torch::nn::Sequential make_peer_mlp() {
  return torch::nn::Sequential(torch::nn::Linear(64, 64), torch::nn::ReLU(), torch::nn::Linear(64, 10));
}

torch::nn::Sequential make_peer_cnn() {
  using namespace torch::nn;
  return Sequential(Conv2d(Conv2dOptions(1, 32, 5).padding(2)), ReLU(), MaxPool2d(2),
                    Conv2d(Conv2dOptions(32, 64, 5).padding(2)), ReLU(), MaxPool2d(2), Flatten(),
                    Linear(3136, 512), ReLU(), Linear(512, 10));
}

}  // namespace

int main() {
  use_one_thread();
  if (const Status blas = check_blas(); !blas) std::fprintf(stderr, "%s\n", blas.error().detail.c_str());
  for (const Workload& workload :
       {Workload{"mlp 64-[64]-10, batch 10", {"mlp", {64}, {64}, 10}, make_peer_mlp, 300, 10, 51},
        Workload{"mcmahan_cnn, batch 10", {"mcmahan_cnn", {}, {1, 28, 28}, 10}, make_peer_cnn, 120, 10, 9}}) {
    Samples samples = make_samples(workload);
    fmt::print("{}: training / torch::nn {:.2f}, serving one sample / torch::nn {:.2f}\n", workload.name,
               training_ratio(workload, samples), serving_ratio(workload, samples));
  }
}
