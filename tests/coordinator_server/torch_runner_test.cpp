#include "coordinator/server/torch_runner.h"

#include <cmath>

#include "models/runtime/model.h"
#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::coordinator;

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
