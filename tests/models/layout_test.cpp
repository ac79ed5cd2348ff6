#include "models/package/layout.h"
#include "tests/catch.h"

using namespace rivulet;

TEST_CASE("the ranges of a kind are its tensors' coordinates, with neighbours joined", "[models][layout]") {
  const ParameterLayout layout{{{"weight", {2, 3}, TensorKind::parameter},
                                {"bias", {2}, TensorKind::parameter},
                                {"mean", {4}, TensorKind::statistic},
                                {"temperature", {}, TensorKind::parameter},
                                {"variance", {4}, TensorKind::statistic},
                                {"count", {}, TensorKind::statistic}}};
  using Ranges = std::vector<CoordinateRange>;
  // 6 + 2 entries, then 4, 1, and 4 + 1.
  CHECK(ranges_of(layout, TensorKind::parameter) == Ranges{{0, 8}, {12, 13}});
  CHECK(ranges_of(layout, TensorKind::statistic) == Ranges{{8, 12}, {13, 18}});
  CHECK(ranges_of({{{"weight", {7}, TensorKind::parameter}}}, TensorKind::statistic).empty());
}

TEST_CASE("variances are the statistics that batch norm names so", "[models][layout]") {
  const ParameterLayout layout{{{"bn.weight", {2}, TensorKind::parameter},
                                {"bn.running_mean", {2}, TensorKind::statistic},
                                {"bn.running_var", {2}, TensorKind::statistic},
                                {"odd.running_var", {3}, TensorKind::parameter},
                                {"running_var", {}, TensorKind::statistic}}};
  CHECK(variance_ranges(layout) == std::vector<CoordinateRange>{{4, 6}, {9, 10}});
}
