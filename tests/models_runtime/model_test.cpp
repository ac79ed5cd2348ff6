#include "models/runtime/model.h"

#include <cmath>
#include <numeric>

#include "models/runtime/architectures.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"

using namespace rivulet;

namespace {

Architecture mlp(std::vector<std::int64_t> hidden, std::int64_t inputs, std::int64_t outputs) {
  return {"mlp", std::move(hidden), {inputs}, outputs};
}

Architecture cnn(std::int64_t outputs) { return {"mcmahan_cnn", {}, {1, 28, 28}, outputs}; }

}  // namespace

TEST_CASE("the CNN for ten classes has the paper's 1,663,370 parameters", "[runtime][model]") {
  const Model model = Model::build(cnn(10)).value();
  CHECK(model.size() == 1'663'370);
  std::vector<std::string> names;
  for (const TensorSpec& tensor : model.layout().tensors) names.push_back(tensor.name);
  CHECK(names == std::vector<std::string>{"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias",
                                          "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"});
  CHECK(model.layout().tensors[2].shape == std::vector<std::int64_t>{64, 32, 5, 5});
  CHECK(model.layout().tensors[4].shape == std::vector<std::int64_t>{512, 3136});
}

TEST_CASE("the 2NN of McMahan et al. has the paper's 199,210 parameters", "[runtime][model]") {
  const Model model = Model::build(mlp({200, 200}, 784, 10)).value();
  CHECK(model.size() == 199'210);
  REQUIRE(model.layout().tensors.size() == 6);
  CHECK(model.layout().tensors[2] == TensorSpec{"fc2.weight", {200, 200}, TensorKind::parameter});
}

TEST_CASE("softmax regression answers W x + b with W row-major before b", "[runtime][model]") {
  Model model = Model::build(mlp({}, 2, 3)).value();
  REQUIRE(model.set_weights(std::vector<float>{1, 2, 3, 4, 5, 6, 10, 20, 30}));
  // W = [[1, 2], [3, 4], [5, 6]], b = [10, 20, 30].
  const std::vector<float> logits = model.forward(std::vector<float>{1, 1, -1, 2}, 2).value();
  CHECK(logits == std::vector<float>{13, 27, 41, 13, 25, 37});
}

TEST_CASE("a network of two hidden units computes exclusive or", "[runtime][model]") {
  // h1 = relu(a + b), h2 = relu(a + b - 1), y = h1 - 2 * h2.
  Model model = Model::build(mlp({2}, 2, 1)).value();
  REQUIRE(model.set_weights(std::vector<float>{1, 1, 1, 1, 0, -1, 1, -2, 0}));
  CHECK(model.forward(std::vector<float>{0, 0, 0, 1, 1, 0, 1, 1}, 4).value() ==
        std::vector<float>{0, 1, 1, 0});
}

TEST_CASE("each network answers as its plain double-precision twin does", "[runtime][model]") {
  SECTION("mlp of three layers") {
    Model model = Model::build(mlp({7, 5}, 6, 4)).value();
    const std::vector<float> weights = reference::uniform(model.size(), -1, 1, 1);
    const std::vector<float> inputs = reference::uniform(6 * 9, -2, 2, 2);
    REQUIRE(model.set_weights(weights));
    const std::vector<float> logits = model.forward(inputs, 9).value();
    for (std::size_t i = 0; i < 9; ++i) {
      const reference::Vector expected = reference::mlp(
          reference::widened(weights), reference::widened(std::span(inputs).subspan(i * 6, 6)), {7, 5, 4});
      for (std::size_t j = 0; j < 4; ++j) CHECK(logits[i * 4 + j] == Approx(expected[j]).margin(1e-5));
    }
  }
  SECTION("mcmahan_cnn") {
    Model model = Model::build(cnn(10)).value();
    const std::vector<float> weights = model.initial_weights(3);
    const std::vector<float> image = reference::uniform(784, 0, 1, 4);
    REQUIRE(model.set_weights(weights));
    const std::vector<float> logits = model.forward(image, 1).value();
    const reference::Vector expected =
        reference::mcmahan_cnn(reference::widened(weights), reference::widened(image), 10);
    for (std::size_t j = 0; j < 10; ++j) CHECK(logits[j] == Approx(expected[j]).margin(1e-5));
  }
}

TEST_CASE("the CNN reads images flat or shaped alike", "[runtime][model]") {
  Model shaped = Model::build(cnn(3)).value();
  Model flat = Model::build({"mcmahan_cnn", {}, {784}, 3}).value();
  const std::vector<float> weights = shaped.initial_weights(1);
  REQUIRE(shaped.set_weights(weights));
  REQUIRE(flat.set_weights(weights));
  const std::vector<float> images = reference::uniform(2 * 784, 0, 1, 4);
  CHECK(shaped.forward(images, 2).value() == flat.forward(images, 2).value());
}

TEST_CASE("initial weights are uniform within 1/sqrt(fan_in)", "[runtime][model]") {
  const ParameterLayout layout = layout_of(mlp({200, 200}, 784, 10)).value();
  const std::vector<float> weights = initial_weights(layout, 5);
  REQUIRE(weights.size() == layout.size());
  const std::vector<double> fan_in = {784, 784, 200, 200, 200, 200};
  std::size_t offset = 0;
  for (std::size_t t = 0; t < layout.tensors.size(); ++t) {
    const auto values = std::span<const float>(weights).subspan(offset, layout.tensors[t].size());
    offset += values.size();
    const double bound = 1 / std::sqrt(fan_in[t]);
    double sum = 0;
    double squares = 0;
    for (const float value : values) {
      REQUIRE(std::abs(value) <= bound);
      sum += value;
      squares += static_cast<double>(value) * value;
    }
    const auto count = static_cast<double>(values.size());
    CAPTURE(layout.tensors[t].name);
    // Mean 0 and variance bound^2/3, each to five standard errors of the uniform distribution.
    CHECK(std::abs(sum / count) < 5 * bound / std::sqrt(3 * count));
    CHECK(std::abs(squares / count / (bound * bound) - 1.0 / 3) < 5 * std::sqrt(4.0 / 45 / count));
  }
}

TEST_CASE("a seed fixes the initial weights, and another gives others", "[runtime][model]") {
  const Model model = Model::build(mlp({3}, 4, 2)).value();
  CHECK(model.initial_weights(7) == model.initial_weights(7));
  CHECK(model.initial_weights(7) != model.initial_weights(8));
  CHECK(model.weights() == std::vector<float>(model.size(), 0.0F));
  // An independent computation of one bound and draw: mt19937_64 seeded by SplitMix64 of (7, tensor 0).
  std::mt19937_64 rng(derive_seed(7, 0));
  const double unit = static_cast<double>(rng() >> 11) / 9007199254740992.0;
  CHECK(model.initial_weights(7)[0] == static_cast<float>((2 * unit - 1) * 0.5));
}

TEST_CASE("weights of a wrong length are refused and change nothing", "[runtime][model]") {
  Model model = Model::build(mlp({}, 2, 2)).value();
  const std::vector<float> weights = {1, 2, 3, 4, 5, 6};
  REQUIRE(model.set_weights(weights));
  const std::size_t length = GENERATE(0U, 5U, 7U);
  const Status status = model.set_weights(std::vector<float>(length, 9.0F));
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Errc::invalid);
  CHECK(model.weights() == weights);
  std::vector<float> copy(6);
  model.copy_weights(copy);
  CHECK(copy == weights);
}

TEST_CASE("inputs of a wrong length are refused with both counts", "[runtime][model]") {
  Model model = Model::build(mlp({}, 3, 2)).value();
  const auto result = model.forward(std::vector<float>(5), 2);
  REQUIRE_FALSE(result);
  CHECK(result.error() == Error{Errc::invalid, "2 samples of 3 numbers are 6, but 5 were given"});
  CHECK(model.forward({}, 0).value().empty());
}

TEST_CASE("a clone shares nothing with its original", "[runtime][model]") {
  Model model = Model::build(mlp({2}, 2, 2)).value();
  const std::vector<float> weights = model.initial_weights(1);
  REQUIRE(model.set_weights(weights));
  Model copy = model.clone().value();
  CHECK(copy.weights() == weights);
  CHECK(copy.architecture() == model.architecture());
  REQUIRE(model.set_weights(std::vector<float>(model.size(), 0.0F)));
  CHECK(copy.weights() == weights);
  CHECK(copy.forward(std::vector<float>{1, 2}, 1).value() !=
        model.forward(std::vector<float>{1, 2}, 1).value());
}

TEST_CASE("what makes no network is refused in words", "[runtime][model]") {
  struct Wrong {
    Architecture architecture;
    Errc code;
    std::string word;
  };
  const auto wrong = GENERATE(values<Wrong>({
      {{"transformer", {}, {4}, 2}, Errc::unsupported, "\"transformer\""},
      {{"mlp", {}, {}, 2}, Errc::invalid, "input.shape"},
      {{"mlp", {}, {4, 0}, 2}, Errc::invalid, "input.shape"},
      {{"mlp", {}, {4}, 0}, Errc::invalid, "0 outputs"},
      {{"mlp", {3, -1}, {4}, 2}, Errc::invalid, "model.hidden has an element of -1"},
      {{"mlp", {1 << 20}, {1 << 20}, 2}, Errc::too_large, "parameters"},
      {{"mlp", {}, {1LL << 40, 1LL << 40}, 2}, Errc::too_large, "input.shape"},
      {{"mcmahan_cnn", {}, {1, 32, 32}, 10}, Errc::invalid, "28"},
      {{"mcmahan_cnn", {128}, {784}, 10}, Errc::invalid, "hidden"},
  }));
  const auto result = Model::build(wrong.architecture);
  REQUIRE_FALSE(result);
  CHECK(result.error().code == wrong.code);
  CHECK(result.error().detail.find(wrong.word) != std::string::npos);
}
