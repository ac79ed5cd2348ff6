#include "models/runtime/profile/measure.h"

#include <algorithm>

#include "models/runtime/model.h"
#include "models/runtime/profile/meter.h"
#include "models/runtime/runtime.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

Release small_cnn() {
  Release release;
  release.name = "small";
  release.architecture = {.kind = "cnn", .hidden = {16}, .input_shape = {1, 8, 8}, .outputs = 3};
  release.architecture.channels = {8};
  release.architecture.kernel = 3;
  release.architecture.pool = 2;
  release.layout = Model::build(release.architecture).value().layout();
  release.classes = {"a", "b", "c"};
  release.recipes = {"fp32", "int8"};
  for (int i = 0; i < 4 * 64; ++i) release.known_inputs.push_back(static_cast<float>(i % 7) / 7);
  return release;
}

/// By this clock each call takes as long as any other.
Stopwatch steady() {
  return [now = std::chrono::nanoseconds(0)]() mutable { return now += std::chrono::microseconds(5); };
}

bool has_shape(const std::vector<OperatorTime>& operators, const std::string& shape) {
  return std::ranges::any_of(operators, [&](const OperatorTime& step) { return step.shape == shape; });
}

}  // namespace

TEST_CASE("each variant is run by every engine that may serve it", "[profile]") {
  use_one_thread();
  const Release release = small_cnn();
  const std::vector<float> weights = Model::build(release.architecture).value().initial_weights(1);
  const auto profiles =
      profile_engines(release, weights, std::vector<OfferedVariant>{{"fp32"}, {"int8", true}},
                      {.warm_up = 1, .calls_min = 3, .calls_max = 3}, steady());
  INFO((profiles ? "" : profiles.error().detail));
  REQUIRE(profiles);
  std::size_t int8_static = 0;
  for (const char* variant : {"fp32", "int8"}) {
    std::size_t taken = 0, script = 0;
    for (const EngineProfile& one : *profiles) {
      if (one.variant != variant) continue;
      CAPTURE(variant, one.engine, one.refusal);
      taken += one.taken ? 1 : 0;
      script += one.engine == "fp32-script" ? 1 : 0;
      CHECK(one.parameters == release.layout.size());
      if (one.variant == std::string("fp32")) {
        CHECK(one.engine.starts_with("fp32"));
        CHECK(one.file_bytes == 4 * release.layout.size());
      }
      if (!one.refusal.empty()) continue;
      int8_static += one.engine.starts_with("int8-static") ? 1 : 0;
      CHECK(one.p50_us == 5);
      CHECK(one.p99_us == 5);
      CHECK(one.samples_per_second == Approx(32 / 5e-6));
      CHECK(has_shape(one.operators, "1x8x8x8"));  // the convolution's
      CHECK(has_shape(one.operators, "1x3"));      // the classes'
      // The convolution alone answers 8 * 8 * 8 numbers of at least a byte.
      CHECK(one.activation_bytes >= 512);
      CHECK(one.activation_bytes < 1'000'000);
    }
    CHECK(taken == 1);
    CHECK(script == 1);
  }
  CHECK(int8_static >= 1);
}

TEST_CASE("what a thread does in LibTorch is metered, and nothing afterwards", "[profile]") {
  use_one_thread();
  const Release release = small_cnn();
  Model model = Model::build(release.architecture).value();
  model.set_weights(model.initial_weights(1)).value();
  const std::vector<float> sample(64, 0.5F);
  const Metered idle = meter([] {});
  CHECK(idle.operators.empty());
  CHECK(idle.tensor_bytes_max == 0);
  const Metered one = meter([&] { model.forward(sample, 1).value(); });
  const Metered four = meter([&] { model.forward(std::vector<float>(256, 0.5F), 4).value(); });
  REQUIRE(one.operators.size() == four.operators.size());
  for (const OperatorTime& step : one.operators) {
    CAPTURE(step.name);
    CHECK(step.name.find("::") != std::string::npos);
    CHECK(step.microseconds > 0);
  }
  CHECK(has_shape(four.operators, "4x8x8x8"));
  CHECK(has_shape(four.operators, "4x3"));
  // The conv's answer and the ReLU's live at once: 2 * 8 * 8 * 8 floats a sample, at least.
  CHECK(one.tensor_bytes_max >= 2 * 512 * 4);
  CHECK(four.tensor_bytes_max >= 3 * one.tensor_bytes_max);
  CHECK(four.tensor_bytes_max <= 6 * one.tensor_bytes_max);
}
