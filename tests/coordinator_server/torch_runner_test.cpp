#include "coordinator/server/torch_runner.h"

#include <cmath>

#include "models/runtime/model.h"
#include "protocol/rng.h"
#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::coordinator;

namespace {

struct TwoClasses {
  Release release;  ///< Of four numbers a sample, without known inputs.
  std::vector<float> weights;
};

TwoClasses two_classes() {
  Release release;
  release.architecture = {.kind = "mlp", .hidden = {16}, .input_shape = {4}, .outputs = 2};
  auto model = Model::build(release.architecture);
  REQUIRE(model.has_value());
  release.layout = model->layout();
  release.classes = {"no", "yes"};
  return {std::move(release), model->initial_weights(7)};
}

}  // namespace

TEST_CASE("a model whose answers overflow is scored, with a loss that is not finite",
          "[coordinator][scoring]") {
  Release release;
  release.architecture.kind = "mlp";
  release.architecture.input_shape = {2};
  release.architecture.outputs = 2;
  auto model = Model::build(release.architecture);
  REQUIRE(model.has_value());
  release.layout = model->layout();
  REQUIRE(release.layout.size() == 6);  // A weight of 2 x 2, and a bias of 2.
  release.classes = {"no", "yes"};
  const ScoringData data{{1, 1, 0, 0, 1, 0, 0, 1}, {0, 1, 1, 1}};
  const auto runner = make_torch_runner();

  // Class 1 by ln 3 in the logits, whatever the inputs: probabilities 1/4 and 3/4.
  const std::vector<float> leaning{0, 0, 0, 0, 0, std::log(3.0F)};
  const auto sound = runner->score(release, leaning, data);
  INFO((sound ? "" : sound.error().detail));
  REQUIRE(sound.has_value());
  CHECK(sound->accuracy == 0.75);
  CHECK(sound->loss == Approx((std::log(4.0) + 3 * std::log(4.0 / 3.0)) / 4));

  // Each weight is finite; three of them added up are not.
  const auto scored = runner->score(release, std::vector<float>(6, 3e38F), data);
  INFO((scored ? "" : scored.error().detail));
  REQUIRE(scored.has_value());
  CHECK_FALSE(std::isfinite(scored->loss));
  CHECK(scored->accuracy == 0);
  CHECK(scored->samples == 4);
}

TEST_CASE("a regression is scored by its mean squared error, in float and in int8",
          "[coordinator][scoring]") {
  Release release;
  release.task = TaskKind::regression;
  release.architecture = {.kind = "mlp", .hidden = {}, .input_shape = {2}, .outputs = 1};
  auto model = Model::build(release.architecture);
  REQUIRE(model.has_value());
  release.layout = model->layout();
  release.known_inputs = {1, 0};
  const auto runner = make_torch_runner();
  // x - y + 1/2: 1/2 and 7/2 of [1, 1] and [3, 0]. Off by 1/2 and 3/2.
  const std::vector<float> weights{1, -1, 0.5F};
  const ScoringData data{{1, 1, 3, 0}, {0, 0}, {1, 2}};
  const auto metrics = runner->score(release, weights, data);
  INFO((metrics ? "" : metrics.error().detail));
  REQUIRE(metrics.has_value());
  CHECK(metrics->loss == Approx((0.25 + 2.25) / 2));
  CHECK(metrics->accuracy == 0);
  CHECK(metrics->samples == 2);
  Release huber = release;
  huber.loss = RegressionLoss::huber;  // 1/8 and 3/2 - 1/2.
  CHECK(runner->score(huber, weights, data)->loss == Approx(1.125 / 2));
  const auto in_int8 = runner->run_in_int8(huber, weights, data, nullptr);
  REQUIRE(in_int8->has_value());
  CHECK((*in_int8)->holdout.loss == Approx(1.125 / 2).epsilon(0.1));
  const ScoringData without{data.inputs, {0, 0}};
  CHECK_FALSE(runner->score(release, weights, without));
  CHECK_FALSE(runner->run_in_int8(release, weights, without, nullptr));

  const auto outcome = runner->run_in_int8(release, weights, data, nullptr);
  INFO((outcome ? "" : outcome.error().detail));
  REQUIRE(outcome.has_value());
  REQUIRE(outcome->has_value());
  CHECK((*outcome)->holdout.loss == Approx(1.25).epsilon(0.1));
}

TEST_CASE("a model is calibrated on the holdout, and scored as nodes run it in int8",
          "[coordinator][scoring]") {
  auto [release, weights] = two_classes();
  release.known_inputs = {1, 0, 0.5F, 0, 0, 1, 0, 0.25F};
  const auto runner = make_torch_runner();
  ScoringData data;
  Rng rng(3);
  for (int i = 0; i < 600; ++i) {
    for (int k = 0; k < 4; ++k) data.inputs.push_back(static_cast<float>(uniform_unit(rng)));
    data.labels.push_back(0);
  }
  // Labels are the model's own answers: in float it is always right.
  const auto answers = runner->answers(release, weights, data.inputs);
  REQUIRE(answers.has_value());
  for (std::size_t i = 0; i < 600; ++i) data.labels[i] = (*answers)[2 * i] < (*answers)[2 * i + 1] ? 1 : 0;
  REQUIRE(runner->score(release, weights, data)->accuracy == 1.0);

  const auto outcome = runner->run_in_int8(release, weights, data, &data);
  INFO((outcome ? "" : outcome.error().detail));
  REQUIRE(outcome.has_value());
  REQUIRE(outcome->has_value());
  const Int8Outcome& int8 = **outcome;
  CHECK(int8.ranges.values.size() == 3);  // Of the input and of each layer.
  CHECK(int8.ranges.values.front().high == Approx(1).margin(0.01));
  CHECK(int8.ranges.values.front().low == 0);
  CHECK(int8.holdout.samples == 600);
  CHECK(int8.holdout.accuracy > 0.97);
  REQUIRE(int8.test.has_value());
  CHECK(*int8.test == int8.holdout);
  const auto known = runner->answers(release, weights, release.known_inputs);
  REQUIRE(int8.known_outputs.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(int8.known_outputs[i] == Approx((*known)[i]).margin(0.02));
  CHECK(int8.known_outputs != *known);  // Int8 it is.
  CHECK_FALSE(runner->run_in_int8(release, weights, data, nullptr).value()->test);
}

TEST_CASE("int8 of nodes that find its ranges is timed without their samples", "[coordinator][scoring]") {
  auto [release, weights] = two_classes();
  release.known_inputs = {1, 0, 0.5F, 0};
  const auto runner = make_torch_runner();
  const auto time = runner->own_int8_time(release, weights);
  REQUIRE(time.has_value());
  CHECK(*time > 0);
  CHECK(runner->own_int8_time(release, weights) == time);  // It is timed once.
}
