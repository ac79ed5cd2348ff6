#include "models/runtime/evaluation.h"

#include <cmath>
#include <limits>

#include "models/runtime/preprocessing.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"

using namespace rivulet;

namespace {

/// Logits (x, 0): class 0 wins for x >= 0.
Model sign_model() {
  Model model = Model::build({"mlp", {}, {1}, 2}).value();
  REQUIRE(model.set_weights(std::vector<float>{1, 0, 0, 0}));
  return model;
}

}  // namespace

TEST_CASE("an evaluation counts what is right per sample and sums the cross-entropy",
          "[runtime][evaluation]") {
  Model model = sign_model();
  const std::vector<float> inputs = {2, -2, 0, 3};
  const std::vector<std::int64_t> labels = {0, 0, 0, 1};
  const Evaluation result = evaluate(model, inputs, labels).value();
  CHECK(result.samples == 4);
  CHECK(result.correct == 2);
  CHECK(result.right == std::vector<std::uint8_t>{1, 0, 1, 0});
  CHECK(result.accuracy() == 0.5);
  // -log(e^2/(e^2+1)) - log(e^-2/(e^-2+1)) - log(1/2) - log(1/(e^3+1)), by hand.
  CHECK(result.loss_sum == Approx(0.126928011 + 2.126928011 + 0.693147181 + 3.048587352).epsilon(1e-6));
  CHECK(result.mean_loss() == Approx(5.995590555 / 4).epsilon(1e-6));
}

TEST_CASE("an evaluation gives the same per sample whatever batch the sample is in",
          "[runtime][evaluation]") {
  Model model = sign_model();
  const std::size_t samples = GENERATE(0U, 1U, 255U, 256U, 257U, 513U);
  const std::vector<float> inputs = reference::uniform(samples, -1, 1, 9);
  const std::vector<std::int64_t> labels(samples, 1);
  const Evaluation result = evaluate(model, inputs, labels).value();
  REQUIRE(result.right.size() == samples);
  std::size_t correct = 0;
  for (std::size_t i = 0; i < samples; ++i) {
    CHECK(result.right[i] == (inputs[i] < 0 ? 1 : 0));
    correct += inputs[i] < 0 ? 1 : 0;
  }
  CHECK(result.correct == correct);
  CHECK(result.samples == samples);
}

TEST_CASE("a regression is scored by its mean squared error", "[runtime][evaluation]") {
  Model model = Model::build({"mlp", {}, {1}, 2}).value();
  REQUIRE(model.set_weights(std::vector<float>{1, 2, 0, 1}));  // y = (x, 2x + 1)
  const std::vector<float> inputs = {1, 2};
  const std::vector<float> targets = {0, 3, 2, 8};  // Errors (1, 0) and (0, -3).
  const Evaluation result = evaluate_values(model, inputs, targets).value();
  CHECK(result.samples == 2);
  CHECK(result.loss_sum == Approx(0.5 + 4.5));
  CHECK(result.right.empty());
  CHECK(evaluate_values(model, inputs, std::vector<float>(3)).error().code == Errc::invalid);
  // |1| and |-3|; beyond 1 Huber's is the error less a half, and half the square up to there.
  const auto other = [&](RegressionLoss loss) {
    return evaluate_values(model, inputs, targets, nullptr, loss).value();
  };
  CHECK(other(RegressionLoss::absolute).losses == std::vector<float>{0.5F, 1.5F});
  CHECK(other(RegressionLoss::huber).losses == std::vector<float>{0.25F, 1.25F});
  CHECK(other(RegressionLoss::huber).loss_sum == Approx(1.5));
}

TEST_CASE("an evaluation refuses labels and lengths that don't fit", "[runtime][evaluation]") {
  Model model = sign_model();
  CHECK(evaluate(model, std::vector<float>{1, 2}, std::vector<std::int64_t>{0}).error().code ==
        Errc::invalid);
  CHECK(evaluate(model, std::vector<float>{1}, std::vector<std::int64_t>{2}).error() ==
        Error{Errc::invalid, "the label of sample 0 is 2; the model has classes 0 to 1"});
  CHECK(evaluate(model, std::vector<float>{1}, std::vector<std::int64_t>{-1}).error().code == Errc::invalid);
}

TEST_CASE("a model that answers non-finite numbers is corrupt, not merely wrong", "[runtime][evaluation]") {
  Model model = sign_model();
  REQUIRE(model.set_weights(std::vector<float>{std::numeric_limits<float>::quiet_NaN(), 0, 0, 0}));
  const auto result = evaluate(model, std::vector<float>{1}, std::vector<std::int64_t>{0});
  REQUIRE_FALSE(result);
  CHECK(result.error() == Error{Errc::corrupt, "the model's answer to sample 0 is not finite"});
}

TEST_CASE("softmax gives known probabilities and survives great logits", "[runtime][evaluation]") {
  std::vector<float> row = {0, std::log(2.0F), std::log(5.0F)};
  softmax(row);
  CHECK(row[0] == Approx(0.125));
  CHECK(row[1] == Approx(0.25));
  CHECK(row[2] == Approx(0.625));
  std::vector<float> great = {3e38F, 3e38F, -3e38F};
  softmax(great);
  CHECK(great == std::vector<float>{0.5F, 0.5F, 0.0F});
}

TEST_CASE("preprocessing subtracts and divides by scalar, channel or feature", "[runtime][preprocessing]") {
  const std::vector<std::int64_t> image = {2, 1, 2};
  std::vector<float> sample = {1, 2, 3, 4, 5, 6, 7, 8};
  SECTION("scalar") {
    Preprocessor::make({{1}, {2}}, image).value().apply(sample);
    CHECK(sample == std::vector<float>{0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5});
  }
  SECTION("channel") {
    Preprocessor::make({{1, 3}, {1, 2}}, image).value().apply(sample);
    CHECK(sample == std::vector<float>{0, 1, 0, 0.5, 4, 5, 2, 2.5});
  }
  SECTION("feature, with a scalar scale") {
    Preprocessor::make({{1, 2, 3, 4}, {4}}, image).value().apply(sample);
    CHECK(sample == std::vector<float>{0, 0, 0, 0, 1, 1, 1, 1});
  }
  SECTION("a count that is none of these") {
    CHECK(Preprocessor::make({{1, 2, 3}, {1}}, image).error().code == Errc::invalid);
    CHECK(Preprocessor::make({{0}, {0}}, image).error().code == Errc::invalid);
  }
}
