#include "models/runtime/training.h"

#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include "models/runtime/evaluation.h"
#include "models/runtime/runtime.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"

using namespace rivulet;
using reference::Vector;

namespace {

Model mlp(std::vector<std::int64_t> hidden, std::int64_t inputs, std::int64_t outputs) {
  use_one_thread();
  return Model::build({"mlp", std::move(hidden), {inputs}, outputs}).value();
}

std::vector<std::int64_t> labels_below(std::int64_t classes, std::size_t samples) {
  std::vector<std::int64_t> labels(samples);
  for (std::size_t i = 0; i < samples; ++i) labels[i] = static_cast<std::int64_t>(i * 7 / 3) % classes;
  return labels;
}

/// All the data in one batch, one step an epoch: then the delta is -rate * gradient.
TrainingParameters full_batch(double learning_rate, std::uint32_t epochs = 1) {
  return {.epochs = epochs, .batch_size = 1000, .learning_rate = learning_rate};
}

/// Mean cross-entropy of a network given by its logits, over all samples.
double mean_loss(const std::function<Vector(const Vector&)>& network, std::span<const float> inputs,
                 std::span<const std::int64_t> labels) {
  const std::size_t width = inputs.size() / labels.size();
  double sum = 0;
  for (std::size_t i = 0; i < labels.size(); ++i)
    sum += reference::cross_entropy(network(reference::widened(inputs.subspan(i * width, width))), labels[i]);
  return sum / static_cast<double>(labels.size());
}

/// Central difference of `loss` in coordinate `index`.
double slope(const std::function<double(const Vector&)>& loss, Vector weights, std::size_t index,
             double step = 1e-5) {
  weights[index] += step;
  const double above = loss(weights);
  weights[index] -= 2 * step;
  return (above - loss(weights)) / (2 * step);
}

/// Three clusters of points in the plane, far apart.
void make_clusters(std::size_t samples, std::vector<float>& inputs, std::vector<std::int64_t>& labels) {
  const std::vector<float> noise = reference::uniform(2 * samples, -0.5, 0.5, 11);
  constexpr float centres[3][2] = {{2, 0}, {-1, 2}, {-1, -2}};
  for (std::size_t i = 0; i < samples; ++i) {
    labels.push_back(static_cast<std::int64_t>(i % 3));
    inputs.push_back(centres[i % 3][0] + noise[2 * i]);
    inputs.push_back(centres[i % 3][1] + noise[2 * i + 1]);
  }
}

}  // namespace

TEST_CASE("a step of softmax regression is the formula (p - y) x", "[runtime][training]") {
  constexpr std::size_t samples = 6;
  constexpr std::size_t width = 4;
  constexpr std::size_t classes = 3;
  Model model = mlp({}, width, classes);
  const std::vector<float> base = reference::uniform(model.size(), -1, 1, 1);
  const std::vector<float> inputs = reference::uniform(samples * width, -1, 1, 2);
  const std::vector<std::int64_t> labels = labels_below(classes, samples);
  const TrainingOutcome outcome = train(model, base, {inputs, labels}, full_batch(0.3)).value();

  Vector expected(base.size(), 0.0);
  double loss = 0;
  for (std::size_t i = 0; i < samples; ++i) {
    const Vector x = reference::widened(std::span(inputs).subspan(i * width, width));
    const Vector logits = reference::dense(reference::widened(base), x, classes);
    loss += reference::cross_entropy(logits, labels[i]) / samples;
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit);
    for (std::size_t c = 0; c < classes; ++c) {
      const double error = std::exp(logits[c]) / sum - (labels[i] == static_cast<std::int64_t>(c) ? 1 : 0);
      for (std::size_t j = 0; j < width; ++j) expected[c * width + j] -= 0.3 * error * x[j] / samples;
      expected[classes * width + c] -= 0.3 * error / samples;
    }
  }
  REQUIRE(outcome.delta.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(outcome.delta[i] == Approx(expected[i]).margin(1e-6));
  CHECK(outcome.loss_first == Approx(loss).epsilon(1e-5));
  CHECK(outcome.loss_last == outcome.loss_first);
  CHECK(outcome.end == TrainingEnd::finished);
  CHECK(outcome.samples == samples);
  CHECK(outcome.steps == 1);
}

TEST_CASE("the gradients of a network with hidden layers are the slopes of its loss", "[runtime][training]") {
  Model model = mlp({5, 4}, 3, 3);
  const std::vector<float> base = reference::uniform(model.size(), -1, 1, 3);
  const std::vector<float> inputs = reference::uniform(3 * 7, -1, 1, 4);
  const std::vector<std::int64_t> labels = labels_below(3, 7);
  const TrainingOutcome outcome = train(model, base, {inputs, labels}, full_batch(1)).value();
  const auto loss = [&](const Vector& weights) {
    return mean_loss([&](const Vector& x) { return reference::mlp(weights, x, {5, 4, 3}); }, inputs, labels);
  };
  for (std::size_t i = 0; i < base.size(); ++i) {
    CAPTURE(i);
    CHECK(outcome.delta[i] == Approx(-slope(loss, reference::widened(base), i)).margin(2e-6));
  }
}

TEST_CASE("the gradients of the CNN are the slopes of its loss", "[runtime][training]") {
  Model model = Model::build({"mcmahan_cnn", {}, {784}, 10}).value();
  const std::vector<float> base = model.initial_weights(5);
  const std::vector<float> inputs = reference::uniform(784, 0, 1, 6);
  const std::vector<std::int64_t> labels = {7};
  const TrainingOutcome outcome = train(model, base, {inputs, labels}, full_batch(1)).value();
  const auto loss = [&](const Vector& weights) {
    return mean_loss([&](const Vector& x) { return reference::mcmahan_cnn(weights, x, 10); }, inputs, labels);
  };
  // One entry of each tensor: conv1 weight, bias; conv2 weight, bias; fc1 weight, bias; fc2 weight, bias.
  for (const std::size_t i : {313U, 805U, 832U + 31'007U, 832U + 51'200U + 9U, 52'096U + 700'123U,
                              52'096U + 1'605'632U + 77U, 1'658'240U + 7U * 512U + 300U, 1'663'367U}) {
    CAPTURE(i);
    CHECK(outcome.delta[i] == Approx(-slope(loss, reference::widened(base), i)).epsilon(2e-3).margin(2e-6));
  }
}

TEST_CASE("a step of linear regression is the formula 2/n (y - t) x", "[runtime][training]") {
  Model model = mlp({}, 2, 1);
  const std::vector<float> base = {1, -1, 0.5};
  const std::vector<float> inputs = {1, 2, 3, 1};
  const std::vector<float> targets = {0, 2};
  // Answers -0.5 and 2.5, errors -0.5 and 0.5: gradient (2/2) * [-0.5 + 1.5, -1 + 0.5, 0].
  const TrainingOutcome outcome =
      train(model, base, {.inputs = inputs, .targets = targets, .task = TaskKind::regression},
            full_batch(0.1))
          .value();
  CHECK(outcome.delta[0] == Approx(-0.1));
  CHECK(outcome.delta[1] == Approx(0.05));
  CHECK(outcome.delta[2] == Approx(0).margin(1e-7));
  CHECK(outcome.loss_first == Approx(0.25));
}

TEST_CASE("a step by another loss is that loss's slope", "[runtime][training]") {
  Model model = mlp({}, 2, 1);
  const std::vector<float> base = {1, -1, 0.5};
  const std::vector<float> inputs = {1, 2, 3, 1};
  const std::vector<float> targets = {2.5, 2};  // Answers -0.5 and 2.5, errors -3 and 0.5.
  TrainingData data{.inputs = inputs, .targets = targets, .task = TaskKind::regression};
  std::vector<double> step;
  double loss = 0;
  SECTION("Huber's is -1 and 0.5: (1/2) * [-1 + 1.5, -2 + 0.5, -0.5]") {
    data.loss = RegressionLoss::huber;
    step = {-0.025, 0.075, 0.025};
    loss = (2.5 + 0.125) / 2;
  }
  SECTION("that of the absolute error -1 and 1: (1/2) * [-1 + 3, -2 + 1, 0]") {
    data.loss = RegressionLoss::absolute;
    step = {-0.1, 0.05, 0};
    loss = (3 + 0.5) / 2;
  }
  const TrainingOutcome outcome = train(model, base, data, full_batch(0.1)).value();
  for (std::size_t i = 0; i < step.size(); ++i)
    CHECK(outcome.delta[i] == Approx(step[i]).epsilon(1e-5).margin(1e-7));
  CHECK(outcome.loss_first == Approx(loss));
}

TEST_CASE("an anomaly model learns to rebuild its inputs", "[runtime][training]") {
  Model model = mlp({1}, 2, 2);  // One hidden unit suffices for points on a ray.
  const std::vector<float> base = model.initial_weights(3);
  std::vector<float> inputs;
  for (int i = 1; i <= 20; ++i)
    inputs.insert(inputs.end(), {0.1F * static_cast<float>(i), 0.2F * static_cast<float>(i)});
  const TrainingOutcome outcome =
      train(model, base, {.inputs = inputs, .task = TaskKind::anomaly},
            {.epochs = 300, .batch_size = 5, .learning_rate = 0.02, .optimizer = OptimizerKind::adam})
          .value();
  CHECK(outcome.end == TrainingEnd::finished);
  CHECK(outcome.loss_last < 0.01 * outcome.loss_first);
}

TEST_CASE("the proximal term pulls the second step towards the base", "[runtime][training]") {
  Model model = mlp({}, 2, 2);
  const std::vector<float> base = reference::uniform(model.size(), -1, 1, 5);
  const std::vector<float> inputs = reference::uniform(2 * 5, -1, 1, 6);
  const std::vector<std::int64_t> labels = labels_below(2, 5);
  constexpr double rate = 0.4;
  constexpr double mu = 0.7;
  TrainingParameters parameters = full_batch(rate, 2);
  parameters.proximal_mu = mu;
  const TrainingOutcome outcome = train(model, base, {inputs, labels}, parameters).value();
  // w1 = w0 - rate g(w0), where the term is zero; w2 = w1 - rate (g(w1) + mu (w1 - w0)).
  const auto loss = [&](const Vector& weights) {
    return mean_loss([&](const Vector& x) { return reference::dense(weights, x, 2); }, inputs, labels);
  };
  const Vector w0 = reference::widened(base);
  Vector w1 = w0;
  for (std::size_t i = 0; i < w0.size(); ++i) w1[i] -= rate * slope(loss, w0, i);
  for (std::size_t i = 0; i < w0.size(); ++i) {
    const double w2 = w1[i] - rate * (slope(loss, w1, i) + mu * (w1[i] - w0[i]));
    CHECK(outcome.delta[i] == Approx(w2 - w0[i]).margin(2e-6));
  }
}

TEST_CASE("the same seed trains to the same bits, and another to others", "[runtime][training]") {
  Model model = mlp({16}, 8, 4);
  const std::vector<float> base = model.initial_weights(1);
  const std::vector<float> inputs = reference::uniform(8 * 53, -1, 1, 7);
  const std::vector<std::int64_t> labels = labels_below(4, 53);
  TrainingParameters parameters{
      .epochs = 3, .batch_size = 10, .learning_rate = 0.2, .momentum = 0.9, .seed = 9};
  const TrainingOutcome first = train(model, base, {inputs, labels}, parameters).value();
  CHECK(first.steps == 18);  // Six batches an epoch, the last of 3 samples.
  const TrainingOutcome again = train(model, base, {inputs, labels}, parameters).value();
  CHECK(again.delta == first.delta);

  // Another model, on another thread, beside a third: nothing is shared.
  std::vector<std::vector<float>> deltas(2);
  {
    std::vector<std::jthread> threads;
    for (std::vector<float>& delta : deltas)
      threads.emplace_back([&] {
        Model own = Model::build({"mlp", {16}, {8}, 4}).value();
        delta = train(own, base, {inputs, labels}, parameters).value().delta;
      });
  }
  CHECK(deltas[0] == first.delta);
  CHECK(deltas[1] == first.delta);

  parameters.seed = 10;
  CHECK(train(model, base, {inputs, labels}, parameters).value().delta != first.delta);
}

TEST_CASE("the model is left with base plus delta", "[runtime][training]") {
  Model model = mlp({4}, 3, 2);
  const std::vector<float> base = model.initial_weights(1);
  const std::vector<float> inputs = reference::uniform(3 * 9, -1, 1, 7);
  const std::vector<std::int64_t> labels = labels_below(2, 9);
  const TrainingOutcome outcome = train(model, base, {inputs, labels}, {}).value();
  const std::vector<float> trained = model.weights();
  for (std::size_t i = 0; i < base.size(); ++i) CHECK(outcome.delta[i] == trained[i] - base[i]);
}

TEST_CASE("a delta longer than the bound is scaled down to it", "[runtime][training]") {
  Model model = mlp({}, 3, 2);
  const std::vector<float> base = model.initial_weights(1);
  const std::vector<float> inputs = reference::uniform(3 * 9, -1, 1, 7);
  const std::vector<std::int64_t> labels = labels_below(2, 9);
  const TrainingOutcome free = train(model, base, {inputs, labels}, {.seed = 1}).value();
  double squares = 0;
  for (const float entry : free.delta) squares += static_cast<double>(entry) * entry;
  CHECK(free.delta_norm == Approx(std::sqrt(squares)));

  const TrainingOutcome loose =
      train(model, base, {inputs, labels}, {.clip_norm = 1.01 * free.delta_norm, .seed = 1}).value();
  CHECK(loose.delta == free.delta);
  const TrainingOutcome clipped =
      train(model, base, {inputs, labels}, {.clip_norm = free.delta_norm / 4, .seed = 1}).value();
  CHECK(clipped.delta_norm == free.delta_norm);
  for (std::size_t i = 0; i < base.size(); ++i) CHECK(clipped.delta[i] == Approx(free.delta[i] / 4));
}

TEST_CASE("training separates what is separable", "[runtime][training]") {
  std::vector<float> inputs;
  std::vector<std::int64_t> labels;
  make_clusters(90, inputs, labels);
  const auto kind = GENERATE(OptimizerKind::sgd, OptimizerKind::adam);
  Model model = mlp({8}, 2, 3);
  const TrainingOutcome outcome = train(model, model.initial_weights(2), {inputs, labels},
                                        {.epochs = 30,
                                         .batch_size = 10,
                                         .learning_rate = kind == OptimizerKind::adam ? 0.02 : 0.2,
                                         .optimizer = kind})
                                      .value();
  CHECK(outcome.loss_last < 0.1 * outcome.loss_first);
  CHECK(outcome.accuracy == 1);
  CHECK(evaluate(model, inputs, labels).value().accuracy() == 1);
}

TEST_CASE("divergence is an outcome with a reason and without a delta", "[runtime][training]") {
  Model model = mlp({8}, 2, 3);
  std::vector<float> inputs;
  std::vector<std::int64_t> labels;
  make_clusters(30, inputs, labels);
  const std::vector<float> base = model.initial_weights(1);
  SECTION("while it trains") {
    const TrainingOutcome outcome =
        train(model, base, {inputs, labels}, {.epochs = 5, .learning_rate = 1e30}).value();
    CHECK(outcome.end == TrainingEnd::diverged);
    CHECK(outcome.delta.empty());
    CHECK(outcome.detail.find("training diverged: the loss is not finite after ") == 0);
  }
  SECTION("in its last step") {
    TrainingParameters parameters = full_batch(3e38);
    std::vector<float> large(inputs);
    for (float& value : large) value *= 100;
    const TrainingOutcome outcome = train(model, base, {large, labels}, parameters).value();
    CHECK(outcome.end == TrainingEnd::diverged);
    CHECK(outcome.detail.find("training diverged: a weight is not finite after 1 steps") == 0);
  }
  SECTION("and the model trains again as if it had not happened") {
    const TrainingOutcome before = train(model, base, {inputs, labels}, {}).value();
    std::ignore = train(model, base, {inputs, labels}, {.epochs = 5, .learning_rate = 1e30});
    CHECK(train(model, base, {inputs, labels}, {}).value().delta == before.delta);
  }
}

TEST_CASE("batch norm over single values is told apart from a learning rate too large",
          "[runtime][training]") {
  // At 32x32 its last layers see one value a channel: of one sample that has no variance.
  Model model =
      Model::build({.kind = "mobilenet_v2", .input_shape = {1, 32, 32}, .outputs = 2, .width = 0.25}).value();
  const std::vector<float> base = model.initial_weights(1);
  const std::vector<float> inputs = reference::uniform(2 * 32 * 32, 0, 1, 5);
  const std::vector<std::int64_t> labels = {0, 1};
  const auto trained = [&](std::size_t samples, std::uint32_t batch_size) {
    return train(model, base, {std::span(inputs).first(samples * 32 * 32), std::span(labels).first(samples)},
                 {.batch_size = batch_size, .learning_rate = 1e-3})
        .value();
  };
  for (const auto& [samples, batch_size] : {std::pair{2, 1}, {1, 10}}) {
    CAPTURE(samples, batch_size);
    const TrainingOutcome outcome =
        trained(static_cast<std::size_t>(samples), static_cast<std::uint32_t>(batch_size));
    CHECK(outcome.end == TrainingEnd::diverged);
    CHECK(outcome.delta.empty());
    CHECK(outcome.detail.find("a training.batch_size of at least 2") != std::string::npos);
  }
  CHECK(trained(2, 2).end == TrainingEnd::finished);
}

TEST_CASE("weights that a base was pruned of stay 0 in training and are in the delta",
          "[runtime][training]") {
  // y = softmax(W x + b) on one sample x = (1, 2), class 0, from zero weights but W[0][0] = 1 and no bias:
  // the logits are (1, 0), so p = (e / (1 + e), 1 / (1 + e)) and the gradient is (p - (1, 0)) x^T.
  Model model = mlp({}, 2, 2);
  const std::vector<float> base = {1, 0, 0, 0, 0, 0};
  const std::vector<float> inputs = {1, 2};
  const std::vector<std::int64_t> labels = {0};
  TrainingParameters parameters = full_batch(0.5);
  parameters.pruned = true;
  const double rest = 1 / (1 + std::exp(1.0));
  SECTION("one step is that of the dense network") {
    const TrainingOutcome outcome = train(model, base, {inputs, labels}, parameters).value();
    const std::vector<double> step = {rest, 2 * rest, -rest, -2 * rest, rest, -rest};
    for (std::size_t i = 0; i < step.size(); ++i)
      CHECK(outcome.delta[i] == Approx(0.5 * step[i]).epsilon(1e-5));
    CHECK(model.weights()[1] == outcome.delta[1]);
  }
  SECTION("the second starts from the kept weight and the biases alone") {
    parameters.epochs = 2;
    const TrainingOutcome outcome = train(model, base, {inputs, labels}, parameters).value();
    const double logit =
        1 + 0.5 * rest + 0.5 * rest + 0.5 * rest;  // Weight and bias of class 0, bias of class 1.
    const double second = 1 / (1 + std::exp(logit));
    const std::vector<double> step = {1, 2, -1, -2, 1, -1};
    for (std::size_t i = 0; i < step.size(); ++i)
      CHECK(outcome.delta[i] == Approx(0.5 * step[i] * (rest + second)).epsilon(1e-5));
    parameters.pruned = false;
    const TrainingOutcome dense = train(model, base, {inputs, labels}, parameters).value();
    CHECK(std::abs(dense.delta[1] - outcome.delta[1]) > 0.01);
  }
}

TEST_CASE("pruned weights are hidden where a network has running statistics", "[runtime][training]") {
  const ParameterLayout plain{{{"w", {2, 2}, TensorKind::parameter}}};
  const ParameterLayout normed{{{"w", {2, 2}, TensorKind::parameter}, {"mean", {2}, TensorKind::statistic}}};
  CHECK(hides_pruned_weights({.sparsity = 0.5}, normed));
  CHECK_FALSE(hides_pruned_weights({.sparsity = 0}, normed));
  CHECK_FALSE(hides_pruned_weights({.sparsity = 0.5}, plain));
}

TEST_CASE("a training that is asked to stop takes no further step", "[runtime][training]") {
  Model model = mlp({}, 2, 3);
  std::vector<float> inputs;
  std::vector<std::int64_t> labels;
  make_clusters(30, inputs, labels);
  const std::atomic<bool> stop = true;
  const TrainingOutcome outcome =
      train(model, model.initial_weights(1), {inputs, labels}, {.epochs = 1'000'000}, &stop).value();
  CHECK(outcome.end == TrainingEnd::stopped);
  CHECK(outcome.steps == 0);
  CHECK(outcome.delta == std::vector<float>(model.size(), 0.0F));
}

TEST_CASE("a stop in mid-training ends it with the delta so far", "[runtime][training]") {
  Model model = mlp({}, 2, 3);
  std::vector<float> inputs;
  std::vector<std::int64_t> labels;
  make_clusters(30, inputs, labels);
  std::atomic<bool> stop = false;
  Result<TrainingOutcome> outcome = fail(Errc::internal, "not run");
  std::jthread trainer([&] {
    // Far more than could run before the stop, whenever that comes.
    outcome = train(model, model.initial_weights(1), {inputs, labels}, {.epochs = 4'000'000'000U}, &stop);
  });
  stop = true;
  trainer.join();
  REQUIRE(outcome);
  CHECK(outcome->end == TrainingEnd::stopped);
  CHECK(outcome->delta.size() == model.size());
}

TEST_CASE("what cannot be trained is refused in words", "[runtime][training]") {
  Model model = mlp({}, 2, 3);
  const std::vector<float> base(model.size());
  const std::vector<float> inputs = {1, 2, 3, 4};
  const std::vector<std::int64_t> labels = {0, 2};
  const auto refusal = [&](const TrainingData& data, const TrainingParameters& parameters) {
    const auto result = train(model, base, data, parameters);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Errc::invalid);
    return result.error().detail;
  };
  CHECK(refusal({{}, {}}, {}) == "there are no samples to train on");
  CHECK(refusal({std::span(inputs).first(3), labels}, {}) ==
        "3 input numbers are no whole number of samples of 2");
  CHECK(refusal({inputs, std::span(labels).first(1)}, {}) == "2 samples have 1 labels; each needs one");
  const std::vector<std::int64_t> wrong = {0, 3};
  CHECK(refusal({inputs, wrong}, {}) == "the label of sample 1 is 3; the model has classes 0 to 2");
  std::vector<float> infinite = inputs;
  infinite[3] = std::numeric_limits<float>::infinity();
  CHECK(refusal({infinite, labels}, {}) == "input 1 of sample 1 is not finite; leave the sample out");
  CHECK(refusal({.inputs = inputs, .targets = inputs, .task = TaskKind::regression}, {}) ==
        "2 samples of 3 target values are 6, but 4 were given");
  CHECK(refusal({.inputs = inputs, .task = TaskKind::anomaly}, {}).find("needs 2 outputs, but has 3") !=
        std::string::npos);
  CHECK(refusal({inputs, labels}, {.epochs = 0}).find("training.epochs") == 0);
  CHECK(refusal({inputs, labels}, {.batch_size = 0}).find("training.batch_size") == 0);
  CHECK(refusal({inputs, labels}, {.learning_rate = 0}).find("training.learning_rate") == 0);
  CHECK(refusal({inputs, labels}, {.learning_rate = std::nan("")}).find("training.learning_rate") == 0);
  CHECK(refusal({inputs, labels}, {.momentum = 1}).find("training.momentum") == 0);
  CHECK(refusal({inputs, labels}, {.proximal_mu = -1}).find("training.proximal_mu") == 0);
  CHECK(train(model, std::span(base).first(4), {inputs, labels}, {}).error() ==
        Error{Errc::invalid, "the model has 9 weights, but the base has 4"});
}
