#include "models/runtime/distillation.h"

#include <cmath>
#include <limits>

#include "models/runtime/evaluation.h"
#include "models/runtime/runtime.h"
#include "models/runtime/training.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"

using namespace rivulet;

namespace {

Model mlp(std::vector<std::int64_t> hidden, std::int64_t inputs, std::int64_t outputs) {
  use_one_thread();
  return Model::build({"mlp", std::move(hidden), {inputs}, outputs}).value();
}

/// One step of rate 1 over all samples, so that the delta is minus the gradient.
constexpr TrainingParameters one_step{.epochs = 1, .batch_size = 1000, .learning_rate = 1};

/// A layer of three outputs that answers (1, 0, -1) to the input 0: the weights are 0, so is their gradient.
const std::vector<float> student_weights = {0, 0, 0, 1, 0, -1};
const std::vector<float> zero = {0};
const std::vector<float> teacher_logits = {2, 0, 0};

}  // namespace

TEST_CASE("a student's loss and its slope are those of the paper", "[runtime][distillation]") {
  Model model = mlp({}, 1, 3);
  const std::vector<std::int64_t> label = {0};
  // With T = 2: teacher softmax(1, 0, 0) = (0.576117, 0.211942, 0.211942), student softmax(0.5, 0, -0.5) =
  // (0.506480, 0.307196, 0.186324); their divergence is 0.022854; cross-entropy of softmax(1, 0, -1)
  // 0.407606.
  TrainingData data{.inputs = zero, .labels = label};
  data.teacher = SoftTargets{teacher_logits, 2, 0.7};
  const TrainingOutcome both = train(model, student_weights, data, one_step).value();
  CHECK(both.loss_first == Approx(0.186273).margin(2e-6));
  const double slope_of_both[] = {-0.197919, 0.206775, -0.008856};
  for (std::size_t i = 0; i < 3; ++i) CHECK(both.delta[3 + i] == Approx(-slope_of_both[i]).margin(2e-6));
  CHECK(both.accuracy == 1);

  data.labels = {};  // The soft loss alone, whatever its weight.
  const TrainingOutcome soft = train(model, student_weights, data, one_step).value();
  CHECK(soft.loss_first == Approx(4 * 0.022854).margin(4e-6));
  const double slope_of_soft[] = {-0.139273, 0.190509, -0.051236};
  for (std::size_t i = 0; i < 3; ++i) CHECK(soft.delta[3 + i] == Approx(-slope_of_soft[i]).margin(2e-6));
  CHECK(soft.accuracy == 0);
}

TEST_CASE("the weight 0 leaves the labels alone, and 1 the teacher", "[runtime][distillation]") {
  Model model = mlp({4}, 3, 3);
  const std::vector<float> base = model.initial_weights(3);
  const std::vector<float> inputs = reference::uniform(3 * 8, -1, 1, 4);
  const std::vector<float> answers = reference::uniform(3 * 8, -2, 2, 5);
  const std::vector<std::int64_t> labels = {0, 1, 2, 0, 1, 2, 0, 1};
  TrainingData data{.inputs = inputs, .labels = labels};
  const auto plain = train(model, base, data, one_step)->delta;
  data.teacher = SoftTargets{answers, 4, 0};
  CHECK(train(model, base, data, one_step)->delta == plain);
  data.teacher->weight = 1;
  const auto soft = train(model, base, data, one_step)->delta;
  data.labels = {};
  CHECK(train(model, base, data, one_step)->delta == soft);
  CHECK(soft != plain);
}

TEST_CASE("a student that answers as its teacher does has nothing to learn of it",
          "[runtime][distillation]") {
  Model model = mlp({4}, 3, 3);
  const std::vector<float> base = model.initial_weights(3);
  REQUIRE(model.set_weights(base).has_value());
  const std::vector<float> inputs = reference::uniform(3 * 300, -1, 1, 4);
  const std::vector<float> answers = answers_of(model, inputs).value();
  CHECK(answers == model.forward(inputs, 300).value());
  TrainingData data{.inputs = inputs};
  data.teacher = SoftTargets{answers, 4, 1};
  const TrainingOutcome outcome = train(model, base, data, one_step).value();
  CHECK(std::abs(outcome.loss_first) < 1e-6);
  for (const float change : outcome.delta) CHECK(std::abs(change) < 1e-6F);
}

TEST_CASE("values are learned by the squared error to the teacher's", "[runtime][distillation]") {
  Model model = mlp({}, 1, 2);
  const std::vector<float> base = {0, 0, 1, -1};  // Answers (1, -1).
  const std::vector<float> answers = {3, -1};     // Squares 4 and 0: mean 2.
  const std::vector<float> targets = {1, 3};      // Squares 0 and 16: mean 8.
  TrainingData data{.inputs = zero, .targets = targets, .task = TaskKind::regression};
  data.teacher = SoftTargets{answers, 4, 0.75};
  const TrainingOutcome both = train(model, base, data, one_step).value();
  CHECK(both.loss_first == Approx(0.75 * 2 + 0.25 * 8));
  // The mean's slope is the difference itself, as there are two values.
  CHECK(both.delta[2] == Approx(-0.75 * -2));
  CHECK(both.delta[3] == Approx(-0.25 * -4));
  data.targets = {};
  CHECK(train(model, base, data, one_step)->loss_first == Approx(2));

  Model rebuilding = mlp({}, 2, 2);
  const std::vector<float> identity = {1, 0, 0, 1, 0, 0};
  const std::vector<float> input = {2, 5};
  TrainingData anomaly{.inputs = input, .task = TaskKind::anomaly};
  anomaly.teacher = SoftTargets{answers, 4, 0.5};
  // To the teacher (-1, 6): squares 1 and 36; to the input 0.
  CHECK(train(rebuilding, identity, anomaly, one_step)->loss_first == Approx(0.5 * 18.5));
}

TEST_CASE("a student learns from a teacher what no label tells it", "[runtime][distillation]") {
  Model teacher = mlp({16}, 2, 3);
  REQUIRE(teacher.set_weights(reference::uniform(teacher.size(), -2, 2, 8)).has_value());
  Model student = mlp({12}, 2, 3);
  const std::vector<float> inputs = reference::uniform(2 * 600, -1, 1, 9);
  const std::vector<float> answers = answers_of(teacher, inputs).value();
  TrainingData data{.inputs = inputs};
  data.teacher = SoftTargets{answers, 2, 0.7};
  const TrainingParameters parameters{
      .epochs = 60, .batch_size = 20, .learning_rate = 0.01, .seed = 1, .optimizer = OptimizerKind::adam};
  REQUIRE(train(student, student.initial_weights(2), data, parameters)->end == TrainingEnd::finished);

  const std::vector<float> others = reference::uniform(2 * 500, -1, 1, 10);
  const std::vector<float> wanted = answers_of(teacher, others).value();
  std::vector<std::int64_t> said;
  for (auto row = wanted.begin(); row != wanted.end(); row += 3)
    said.push_back(std::max_element(row, row + 3) - row);
  CHECK(evaluate(student, others, said)->accuracy() > 0.95);
}

TEST_CASE("a teacher that does not fit is refused in words", "[runtime][distillation]") {
  Model model = mlp({}, 1, 3);
  const auto refusal = [&](const SoftTargets& teacher) {
    TrainingData data{.inputs = zero};
    data.teacher = teacher;
    const auto result = train(model, student_weights, data, one_step);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Errc::invalid);
    return result.error().detail;
  };
  const std::vector<float> short_answers = {1, 2};
  const std::vector<float> infinite = {1, 2, std::numeric_limits<float>::infinity()};
  CHECK(refusal({short_answers, 4, 0.7}) == "1 samples of 3 answers of the teacher are 3, but 2 were given");
  CHECK(refusal({infinite, 4, 0.7}).find("the teacher's answer 2 of sample 0 is not finite") == 0);
  CHECK(refusal({teacher_logits, 0, 0.7}).find("the temperature is 0") == 0);
  CHECK(refusal({teacher_logits, std::nan(""), 0.7}).find("the temperature is nan") == 0);
  CHECK(refusal({teacher_logits, 4, 1.5}).find("the weight of the soft loss is 1.5") == 0);
  const auto odd = answers_of(model, {});
  CHECK(odd.value().empty());
  Model two = mlp({}, 2, 3);
  CHECK(answers_of(two, zero).error().detail == "1 input numbers are no whole number of samples of 2");
}
