#include "cli/pruned_model.h"
#include "tests/catch.h"

#include <nlohmann/json.hpp>

using namespace rivulet;
using namespace rivulet::cli;

TEST_CASE("a pruned model may go as far in ratio to its norm as the operator signed for the teacher",
          "[cli][model]") {
  PublishedModel teacher;
  Release& release = teacher.release;
  release.name = "small";
  release.architecture = {.kind = "mlp", .hidden = {4}, .input_shape = {1}, .outputs = 2};
  release.layout = {{{"fc1.weight", {4, 1}, TensorKind::parameter},
                     {"fc1.bias", {4}, TensorKind::parameter},
                     {"fc2.weight", {2, 4}, TensorKind::parameter},
                     {"fc2.bias", {2}, TensorKind::parameter}}};
  release.classes = {"no", "yes"};
  release.recipes = {"fp32"};
  release.known_inputs = {1};
  release.limits.max_distance = 9;
  release.limits.min_interval = std::chrono::seconds(60);
  release.created = UtcTime(std::chrono::hours(24 * 365 * 50));
  release.limits.expires = release.created + std::chrono::days(30);
  teacher.version = 6;
  // Units 0 and 2 stay. Squares: 16 + 16 + 4 = 36, so their norm is 6; with 1 + 1 + 361 + 1 more it was 20.
  teacher.weights = {4, 1, 4, 1, 0, 0, 0, 0, 2, 19, 0, 1, 0, 0, 0, 0, 0, 0};

  const UtcTime now = release.created + std::chrono::days(5);
  const auto pruned = prune_teacher(teacher, {release.fleet, 3}, {.fraction = 0.5}, now);
  INFO((pruned ? "" : pruned.error().detail));
  REQUIRE(pruned.has_value());
  CHECK(pruned->model.weights == std::vector<float>{4, 4, 0, 0, 2, 0, 0, 0, 0, 0});
  CHECK(pruned->max_distance == Approx(9.0 * (6 + 1) / (20 + 1)));
  const auto made = decode_release(pruned->model.release);
  REQUIRE(made.has_value());
  CHECK(made->limits.max_distance == pruned->max_distance);
  CHECK(made->limits.min_interval == std::chrono::seconds(60));
  CHECK(made->limits.expires == now + std::chrono::days(30));
  CHECK(made->epoch == 3);
  CHECK(made->teacher->version == 6);

  // What nobody limited stays at the default, which is ten times the norm and 1.
  release.limits.max_distance = 10 * (20 + 1);
  CHECK(prune_teacher(teacher, {release.fleet, 3}, {.fraction = 0.5}, now)->max_distance ==
        Approx(10 * (6 + 1)));
}
