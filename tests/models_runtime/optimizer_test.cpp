#include "models/runtime/optimizer.h"

#include "tests/catch.h"

using namespace rivulet;

namespace {

/// Steps with the given gradients on one weight that starts at `start`.
float descend(const OptimizerParameters& parameters, float start, float base, std::vector<float> gradients) {
  Optimizer optimizer(parameters, 1);
  std::vector<float> weight = {start};
  const std::vector<float> from = {base};
  for (const float gradient : gradients) {
    std::vector<float> g = {gradient};
    optimizer.step(weight, from, g);
    CHECK(g == std::vector<float>{0});
  }
  return weight[0];
}

}  // namespace

TEST_CASE("SGD goes against the gradient by the learning rate", "[runtime][optimizer]") {
  CHECK(descend({.learning_rate = 0.5}, 1, 1, {2, -4}) == Approx(1 - 1 + 2));
}

TEST_CASE("momentum keeps a part of the velocity", "[runtime][optimizer]") {
  // v1 = 1, v2 = 0.5 + 1 = 1.5, v3 = 0.75 + 0 = 0.75; w = 0 - 0.1 * 3.25.
  CHECK(descend({.learning_rate = 0.1, .momentum = 0.5}, 0, 0, {1, 1, 0}) == Approx(-0.325));
}

TEST_CASE("weight decay pulls to zero and the proximal term to the base", "[runtime][optimizer]") {
  CHECK(descend({.learning_rate = 0.1, .weight_decay = 0.5}, 2, 0, {0}) == Approx(2 - 0.1 * 0.5 * 2));
  CHECK(descend({.learning_rate = 0.1, .proximal_mu = 3}, 2, 1, {0}) == Approx(2 - 0.1 * 3 * 1));
}

TEST_CASE("Adam's first steps are those of Algorithm 1", "[runtime][optimizer]") {
  const OptimizerParameters adam{.kind = OptimizerKind::adam, .learning_rate = 0.1};
  // After bias correction the first step is lr * g/|g|, whatever the size of the gradient.
  CHECK(descend(adam, 0, 0, {0.001F}) == Approx(-0.1).epsilon(1e-4));
  CHECK(descend(adam, 0, 0, {-1000}) == Approx(0.1).epsilon(1e-4));
  // Gradients 1 then 2: m2 = 0.9*0.1 + 0.2 = 0.29, m2/(1 - 0.81) = 1.526316; v2 = 0.999*0.001 + 0.004
  // = 0.004999, v2/(1 - 0.998001) = 2.500750, its root 1.581376; w = -0.1 - 0.1 * 0.965182.
  CHECK(descend(adam, 0, 0, {1, 2}) == Approx(-0.1965182).epsilon(1e-5));
}
