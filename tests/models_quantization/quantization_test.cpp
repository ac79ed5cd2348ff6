#include <limits>

#include "models/quantization/engine.h"
#include "models/quantization/ranges.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

constexpr Engine script{EngineKind::fp32_script};
constexpr Engine optimized{EngineKind::fp32_optimized};
constexpr Engine onednn{EngineKind::int8_static, Int8Backend::onednn};
constexpr Engine dynamic{EngineKind::int8_dynamic, Int8Backend::onednn};
constexpr Engine qnnpack{EngineKind::int8_static, Int8Backend::qnnpack};

}  // namespace

TEST_CASE("a range becomes the scale and zero point of affine quantization", "[quantization]") {
  using enum ActivationBits;
  CHECK(step_of({-128, 127}, eight) == ActivationStep{1, 128});
  CHECK(step_of({0, 510}, eight) == ActivationStep{2, 0});
  CHECK(step_of({0, 254}, seven) == ActivationStep{2, 0});
  CHECK(step_of({-63.5, 0}, seven) == ActivationStep{0.5, 127});
  CHECK(step_of({-1, 254}, eight) == ActivationStep{1, 1});
  CHECK(step_of({0, 0}, eight) == ActivationStep{1, 0});
  const ActivationStep tiny = step_of({0, std::numeric_limits<float>::denorm_min()}, eight);
  CHECK(tiny.scale == 1e-37F);
}

TEST_CASE("ranges that no module can be built with are refused with the place", "[quantization]") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(check(ActivationRanges{{{-1, 1}, {0, 0}}, {"a", ""}}));
  CHECK(check(ActivationRanges{}));
  CHECK(check({{{0, 1}, {nan, 1}}, {}}).error() ==
        Error{Errc::invalid, "activation range 1 is [nan, 1]; it must be finite"});
  CHECK(check({{{0, inf}}, {}}).error().code == Errc::invalid);
  CHECK(check({{{-3e38F, 3e38F}}, {}}).error().code == Errc::invalid);
  CHECK(check({{{1, -1}}, {}}).error() ==
        Error{Errc::invalid, "activation range 0 is [1, -1]; it must rise and hold 0"});
  CHECK(check({{{1, 2}}, {}}).error().code == Errc::invalid);
  CHECK(check({{}, {"a", "b", "a"}}).error() ==
        Error{Errc::invalid, "the module 'a' is left in float twice"});
  CHECK(check({std::vector<ActivationRange>(activation_ranges_max + 1), {}}).error().code == Errc::invalid);
}

TEST_CASE("the fastest engine that is right is chosen", "[quantization][engine]") {
  struct Row {
    const char* what;
    std::vector<EngineTrial> trials;
    std::optional<std::size_t> expected;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Row> rows = {
      {"nothing was tried", {}, std::nullopt},
      {"all are refused", {{script, 0, "no"}, {onednn, 1, "wrong"}}, std::nullopt},
      {"fp32 alone", {{script, 700, ""}, {optimized, 500, ""}}, 1},
      {"optimizing may cost", {{script, 400, ""}, {optimized, 500, ""}}, 0},
      {"int8 is much faster", {{script, 700, ""}, {optimized, 500, ""}, {onednn, 200, ""}}, 2},
      {"the faster of two in int8", {{optimized, 500, ""}, {onednn, 200, ""}, {dynamic, 150, ""}}, 2},
      {"int8 is faster but wrong", {{optimized, 500, ""}, {onednn, 200, "differs by 0.4"}}, 0},
      {"int8 is slower", {{optimized, 500, ""}, {qnnpack, 900, ""}}, 0},
      {"QNNPACK, where right and faster", {{optimized, 500, ""}, {qnnpack, 300, ""}}, 1},
      {"a gain of 5 % is within the noise", {{optimized, 500, ""}, {onednn, 475, ""}}, 0},
      {"a gain above 5 % is taken", {{optimized, 500, ""}, {onednn, 474, ""}}, 1},
      {"equal ones go to the first", {{script, 500, ""}, {optimized, 500, ""}}, 0},
      {"int8 where fp32 fails", {{script, 0, "no"}, {optimized, 0, "no"}, {dynamic, 900, ""}}, 2},
      {"a time that is none", {{script, nan, ""}, {optimized, 0, ""}, {onednn, -1, ""}, {dynamic, 5, ""}}, 3},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(choose(row.trials) == row.expected);
  }
}

TEST_CASE("an engine has a name for the log", "[quantization][engine]") {
  CHECK(name(script) == "fp32-script");
  CHECK(name(optimized) == "fp32-optimized");
  CHECK(name(onednn) == "int8-static-onednn");
  CHECK(name(Engine{EngineKind::int8_dynamic, Int8Backend::qnnpack, ActivationBits::seven}) ==
        "int8-dynamic-qnnpack-7bit");
}
