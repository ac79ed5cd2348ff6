#include "node/daemon/model_loader.h"

#include <limits>

#include "models/runtime/calibration.h"
#include "models/runtime/int8/backend.h"
#include "models/runtime/release_model.h"
#include "node/daemon/int8_check.h"
#include "protocol/rng.h"
#include "tests/catch.h"
#include "tests/log_lines.h"
#include "tests/node_daemon/models.h"

namespace rivulet::node {
namespace {

using namespace std::chrono_literals;

/// By this clock every call takes as long as any other.
struct Clock {
  std::chrono::nanoseconds now{0};
  int looks = 0;

  Stopwatch stopwatch() {
    return [this] {
      ++looks;
      return now += 1us;
    };
  }
};

/// By this one each call takes less time than the one before: of the candidates, those in float come first,
/// and are the slowest.
Stopwatch slowing_stopwatch() {
  return [now = std::chrono::nanoseconds(0), step = std::chrono::nanoseconds(1h)]() mutable {
    step = std::max(step * 99 / 100, std::chrono::nanoseconds(1));
    return now += step;
  };
}

/// A version whose int8 variant may run in static int8.
struct Version {
  Activation ready{softmax_release(8, 3), {}};
  VersionManifest manifest;

  explicit Version(std::uint64_t seed = 1) {
    Rng rng(seed);
    for (std::size_t i = 0; i < ready.release.layout.size(); ++i) {
      ready.weights.push_back(static_cast<float>(2 * uniform_unit(rng) - 1));
    }
    const InferenceSpec spec = inference_spec(ready.release);
    const auto& known = ready.release.known_inputs;
    VariantInfo variant;
    variant.name = "int8";
    variant.known_outputs = answers({}, known);
    variant.tolerance = 1e-3F;
    Int8Kernels int8;
    int8.ranges = calibrate(spec, ready.weights, known).value();
    int8.known_outputs = answers(
        {{EngineKind::int8_static, int8_backends().at(0), activation_bits_of_cpu()}, int8.ranges}, known);
    int8.tolerance = 0.05F;
    variant.int8_kernels = int8;
    manifest.manifest_version = manifest.version = seed;
    manifest.variants = {variant};
  }

  [[nodiscard]] std::vector<float> answers(const EngineSetup& setup, std::span<const float> inputs) const {
    const auto model = InferenceModel::load(inference_spec(ready.release), ready.weights, setup).value();
    return answers_of(TaskKind::classification, model.infer_batch(inputs).value());
  }
};

TEST_CASE("the engines are timed for the first version of a release, and not for each", "[node][inference]") {
  Clock clock;
  ModelLoader loader(clock.stopwatch());
  const Version first(1), second(2);
  const auto served = loader.load(first.ready, first.manifest, "int8", {});
  REQUIRE(served);
  CHECK((*served)->version == 1);
  CHECK((*served)->variant == "int8");
  // All take the same time by this clock: the first of the list, in float, is not beaten by an equal.
  CHECK_FALSE(is_int8((*served)->model.engine().kind));
  const int timed = clock.looks;
  const auto next = loader.load(second.ready, second.manifest, "int8", {});
  REQUIRE(next);
  CHECK((*next)->model.engine() == (*served)->model.engine());
  CHECK(clock.looks - timed < timed / 10);
}

TEST_CASE("int8 is taken where it is faster, and only where its answers are right", "[node][inference]") {
  Version version;
  ModelLoader loader(slowing_stopwatch());
  const std::size_t mark = LogLines::mark();
  SECTION("right") {
    const auto served = loader.load(version.ready, version.manifest, "int8", {});
    REQUIRE(served);
    CHECK(is_int8((*served)->model.engine().kind));
    CHECK(LogLines::since(mark, {"int8_not_used"}).empty());
  }
  SECTION("wrong") {
    version.manifest.variants[0].int8_kernels->known_outputs[0] += 0.2F;
    const auto served = loader.load(version.ready, version.manifest, "int8", {});
    REQUIRE(served);
    CHECK_FALSE(is_int8((*served)->model.engine().kind));
    CHECK(LogLines::since(mark, {"int8_not_used version=1 variant=int8", "the manifest's answers"}).size() ==
          1);
  }
  SECTION("the manifest says nothing of int8") {
    version.manifest.variants[0].int8_kernels.reset();
    const auto served = loader.load(version.ready, version.manifest, "int8", {});
    REQUIRE(served);
    CHECK_FALSE(is_int8((*served)->model.engine().kind));
  }
  SECTION("the statistics are the node's own") {
    version.ready.release.batch_norm = BatchNorm::local;
    version.manifest.variants[0].known_outputs[0] += 0.2F;  // Nobody else can know them.
    const auto served = loader.load(version.ready, version.manifest, "int8", {});
    REQUIRE(served);
    CHECK_FALSE(is_int8((*served)->model.engine().kind));
  }
}

TEST_CASE("dynamic int8 serves where it was scored, or where the node's own samples speak for it",
          "[node][inference]") {
  Version version;
  // By this clock dynamic int8, which is tried last, is the fastest.
  ModelLoader loader(slowing_stopwatch());
  const auto kind_with = [&](std::span<const float> own) {
    const auto served = loader.load(version.ready, version.manifest, "int8", {.check = own});
    REQUIRE(served);
    return (*served)->model.engine().kind;
  };
  // All of one sample, which either int8 gives the class that float gives it.
  const auto& known = version.ready.release.known_inputs;
  std::vector<float> own;
  for (std::size_t i = 0; i < ModelLoader::check_min; ++i)
    own.insert(own.end(), known.begin(), known.begin() + 8);
  SECTION("the manifest's ranges are for static int8") {
    CHECK(kind_with({}) == EngineKind::int8_static);
    CHECK(kind_with(std::span(own).subspan(8)) == EngineKind::int8_static);
  }
  SECTION("enough samples to compare") {
    CHECK(kind_with(own) == EngineKind::int8_dynamic);
    CHECK(kind_with({}) == EngineKind::int8_static);  // Not by what a load before took.
  }
  SECTION("static int8 is not possible: dynamic was scored") {
    version.manifest.variants[0].int8_kernels->ranges = {};
    CHECK(kind_with({}) == EngineKind::int8_dynamic);
  }
}

TEST_CASE("where the manifest leaves it to the node, int8 is calibrated on the node's own samples",
          "[node][inference]") {
  Version version;
  version.manifest.variants[0].int8_kernels.reset();
  version.manifest.variants[0].own_ranges = true;
  Rng rng(5);
  std::vector<float> samples(8 * ModelLoader::calibration_min);
  for (float& value : samples) value = static_cast<float>(uniform_unit(rng));
  bool expected = false;
  SECTION("enough of them, and int8 answers as float does") { expected = true; }
  bool said = false;
  std::size_t checked = 8 * ModelLoader::check_min;
  SECTION("too few") { samples.resize(samples.size() - 8); }
  SECTION("too few to check it") { checked -= 8; }
  SECTION("int8 answers otherwise") {
    // One input that no class looks at is so large that a step of int8 swallows the others. The known input
    // is 0, and right in any number of bits.
    for (std::size_t c = 0; c < 3; ++c) version.ready.weights[8 * c] = 0;
    for (std::size_t i = 0; i < samples.size(); i += 8) samples[i] = 1000;
    version.ready.release.known_inputs.assign(8, 0.0F);
    version.manifest.variants[0].known_outputs = version.answers({}, version.ready.release.known_inputs);
    said = true;
  }
  ModelLoader loader(slowing_stopwatch());
  const std::size_t mark = LogLines::mark();
  const auto served =
      loader.load(version.ready, version.manifest, "int8", {samples, std::span(samples).first(checked)});
  INFO((served ? "" : served.error().detail));
  REQUIRE(served);
  CHECK(is_int8((*served)->model.engine().kind) == expected);
  CHECK(LogLines::since(mark, {"int8_not_used version=1", "own samples"}).size() == (said ? 1 : 0));
}

/// A version of one dense layer that answers values, by weights that are known, and of whose int8 the node
/// has to find the ranges itself. The known input is 0, and answered right in any number of bits.
struct ValueVersion {
  Activation ready;
  VersionManifest manifest;

  ValueVersion(TaskKind task, std::int64_t outputs) : ready{softmax_release(8, outputs), {}} {
    ready.release.task = task;
    ready.release.classes.clear();
    ready.release.known_inputs.assign(8, 0.0F);
    ready.weights.assign(ready.release.layout.size(), 0.0F);
    VariantInfo variant;
    variant.name = "int8";
    variant.known_outputs.assign(1, 0.0F);
    variant.tolerance = 1e-3F;
    variant.own_ranges = true;
    manifest.manifest_version = manifest.version = 1;
    manifest.variants = {variant};
  }

  /// With ranges of the coordinator's, which found int8 to be right.
  void score(std::span<const float> samples) {
    Int8Kernels int8;
    int8.ranges = calibrate(inference_spec(ready.release), ready.weights, samples).value();
    int8.known_outputs = {0.0F};
    int8.tolerance = 0.05F;
    manifest.variants[0].own_ranges = false;
    manifest.variants[0].int8_kernels = int8;
  }

  EngineKind kind_with(const OwnSamples& own) const {
    ModelLoader loader(slowing_stopwatch());
    const auto served = loader.load(ready, manifest, "int8", own);
    INFO((served ? "" : served.error().detail));
    REQUIRE(served);
    return (*served)->model.engine().kind;
  }
};

/// Samples (first, x, x, …) with x 0 and 1 by turns. Beside a first of 1000 a step of int8 is at least
/// 1000 / 255, and every x rounds to 0.
std::vector<float> own_samples_with(float first, std::size_t count = ModelLoader::calibration_min) {
  std::vector<float> samples;
  for (std::size_t i = 0; i < count; ++i) {
    samples.push_back(first);
    samples.insert(samples.end(), 7, i % 2 == 0 ? 0.0F : 1.0F);
  }
  return samples;
}

/// Rebuilds the first input as it is, and a quarter of each other.
ValueVersion quarter_rebuilder() {
  ValueVersion version(TaskKind::anomaly, 8);
  for (std::size_t i = 0; i < 8; ++i) version.ready.weights[9 * i] = i == 0 ? 1.0F : 0.25F;
  return version;
}

TEST_CASE("int8 serves a model of values only where it answers the node's own samples as float does",
          "[node][inference]") {
  const std::size_t mark = LogLines::mark();
  // The error of every other sample is 7/8 * 0.75^2, and 7/8 or more where the step swallows the inputs.
  SECTION("anomalies: one whose errors grow") {
    const auto own = own_samples_with(1000);
    CHECK_FALSE(is_int8(quarter_rebuilder().kind_with({own, own})));
    CHECK(LogLines::since(mark, {"int8_not_used version=1 variant=int8", "rises in int8 from 0.2461 to "})
              .size() == 1);
  }
  SECTION("anomalies: one whose errors stay") {
    const auto own = own_samples_with(1);
    CHECK(is_int8(quarter_rebuilder().kind_with({own, own})));
    CHECK(LogLines::since(mark, {"int8_not_used"}).empty());
  }
  // The sum of all inputs but the first: 0 and 7 by turns, so that 3.5 is their standard deviation.
  ValueVersion sum(TaskKind::regression, 1);
  for (std::size_t i = 1; i < 8; ++i) sum.ready.weights[i] = 1;
  SECTION("a regression whose answers are lost") {
    const auto own = own_samples_with(1000);
    CHECK_FALSE(is_int8(sum.kind_with({own, own})));
    CHECK(LogLines::since(mark, {"int8_not_used version=1 variant=int8", "is 4.95 off in int8",
                                 "standard deviation of 3.5 is"})
              .size() == 1);
  }
  SECTION("a regression whose answers stay") {
    const auto own = own_samples_with(1);
    CHECK(is_int8(sum.kind_with({own, own})));
    CHECK(LogLines::since(mark, {"int8_not_used"}).empty());
  }
  SECTION("too few samples to tell") {
    const auto own = own_samples_with(1);
    const std::size_t few = 8 * (ModelLoader::check_min - 1);
    CHECK_FALSE(is_int8(sum.kind_with({own, std::span(own).first(few)})));
    CHECK_FALSE(is_int8(quarter_rebuilder().kind_with({own, std::span(own).first(few)})));
  }
}

TEST_CASE("the node's own samples speak for and against the coordinator's int8 of values",
          "[node][inference]") {
  ValueVersion version = quarter_rebuilder();
  const auto ordinary = own_samples_with(1), other = own_samples_with(1000);
  version.score(ordinary);
  CHECK(version.kind_with({}) == EngineKind::int8_static);
  // By this clock dynamic int8, which is tried last, is the fastest.
  CHECK(version.kind_with({.check = ordinary}) == EngineKind::int8_dynamic);
  CHECK_FALSE(is_int8(version.kind_with({.check = other})));
}

TEST_CASE("what own samples say against int8 is told by their answers", "[node][inference]") {
  const auto answer = [](std::initializer_list<float> value) {
    Prediction one;
    one.value = value;
    return one;
  };
  const auto values = [&](std::initializer_list<float> all) {
    std::vector<Prediction> answers;
    for (const float value : all) answers.push_back(answer({value}));
    return answers;
  };
  const auto faulty = [&](TaskKind task, std::initializer_list<float> in_float,
                          std::initializer_list<float> in_int8) {
    return find_int8_fault(task, values(in_float), values(in_int8)).has_value();
  };
  SECTION("the error of rebuilding may grow by 2 %, and shrink") {
    CHECK_FALSE(faulty(TaskKind::anomaly, {1, 2, 3}, {1.01F, 2.03F, 3.04F}));
    CHECK_FALSE(faulty(TaskKind::anomaly, {1, 2, 3}, {0.5F, 1, 2}));
    CHECK(faulty(TaskKind::anomaly, {1, 2, 3}, {1, 2, 3.15F}));
    CHECK(faulty(TaskKind::anomaly, {0, 0, 0}, {0, 0, 0.001F}));
  }
  SECTION("an anomaly among them does not hide that normal ones grow") {
    CHECK(faulty(TaskKind::anomaly, {1, 1, 1, 1000}, {4, 4, 4, 1000}));
  }
  SECTION("a regression's answers may be off by 5 % of their standard deviation") {
    // Of 0 and 10 it is 5.
    CHECK_FALSE(faulty(TaskKind::regression, {0, 10}, {0.24F, 9.76F}));
    CHECK(faulty(TaskKind::regression, {0, 10}, {0.26F, 9.74F}));
    CHECK(faulty(TaskKind::regression, {100, 110}, {100.26F, 110.26F}));
    CHECK_FALSE(faulty(TaskKind::regression, {3, 3}, {3, 3}));
    CHECK(faulty(TaskKind::regression, {3, 3}, {3, 3.01F}));
  }
  SECTION("each value of a regression by its own standard deviation") {
    const std::vector<Prediction> in_float{answer({0, 0}), answer({1000, 1})};
    const std::vector<Prediction> in_int8{answer({1, 0.2F}), answer({999, 0.8F})};
    const auto fault = find_int8_fault(TaskKind::regression, in_float, in_int8);
    REQUIRE(fault);
    CHECK(fault->starts_with("value 1 "));
  }
  SECTION("what is no number is never good") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(faulty(TaskKind::regression, {0, 10}, {0, nan}));
  }
  SECTION("of 100 classes two may be others") {
    std::vector<Prediction> in_float(100), in_int8(100);
    in_int8[3].class_index = in_int8[7].class_index = 1;
    CHECK_FALSE(find_int8_fault(TaskKind::classification, in_float, in_int8));
    in_int8[9].class_index = 2;
    CHECK(find_int8_fault(TaskKind::classification, in_float, in_int8));
  }
}

TEST_CASE("a variant chosen as one in int8 is not served in float beyond the node's memory",
          "[node][inference]") {
  Version version;
  // 8 * 3 weights and 3 biases of 4 bytes, and the activations of the manifest.
  constexpr std::uint64_t in_float = 4 * 27 + 1000;
  VariantInfo& variant = version.manifest.variants[0];
  variant.activation_bytes = 1000;
  Clock clock;  // Nothing is faster than float by this one.
  ModelLoader loader(clock.stopwatch());
  const auto load = [&](std::uint64_t memory_max, std::span<const float> check = {}) {
    return loader.load(version.ready, version.manifest, "int8", {.check = check}, memory_max);
  };
  const auto runs_in_int8 = [&](std::uint64_t memory_max) {
    const auto served = load(memory_max);
    REQUIRE(served);
    return is_int8((*served)->model.engine().kind);
  };
  SECTION("int8, though it is not faster") {
    CHECK_FALSE(runs_in_int8(0));
    CHECK_FALSE(runs_in_int8(in_float));
    CHECK(runs_in_int8(in_float - 1));
  }
  SECTION("nothing, where float contradicts the manifest's answers in int8") {
    variant.int8_kernels->known_outputs[0] += 0.2F;
    CHECK_FALSE(runs_in_int8(in_float));
    const auto refused = load(in_float - 1);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::too_large);
    CHECK(refused.error().reason == Reason::too_large);
  }
  SECTION("nothing, where the node's own samples speak against int8") {
    // No class looks at the first input, so large that a step of int8 swallows the others.
    for (std::size_t c = 0; c < 3; ++c) version.ready.weights[8 * c] = 0;
    version.ready.release.known_inputs.assign(8, 0.0F);
    variant.known_outputs = variant.int8_kernels->known_outputs =
        version.answers({}, version.ready.release.known_inputs);
    std::vector<float> own(8 * ModelLoader::check_min);
    Rng rng(5);
    for (float& value : own) value = static_cast<float>(uniform_unit(rng));
    for (std::size_t i = 0; i < own.size(); i += 8) own[i] = 1000;
    variant.int8_kernels->ranges =
        calibrate(inference_spec(version.ready.release), version.ready.weights, own).value();
    const auto refused = load(in_float - 1, own);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().reason == Reason::too_large);
    CHECK(refused.error().detail.find("own samples get another class") != std::string::npos);
  }
  SECTION("a variant that was chosen as one in float is") {
    variant.int8_kernels.reset();
    CHECK_FALSE(runs_in_int8(in_float - 1));
  }
}

TEST_CASE("a manifest cannot allow int8 to answer otherwise than float", "[node][inference]") {
  Version version;
  VariantInfo& variant = version.manifest.variants[0];
  Int8Kernels& int8 = *variant.int8_kernels;
  auto& known = version.ready.release.known_inputs;
  std::vector<float> own(8 * ModelLoader::check_min, 0.0F);
  // One input that no class looks at is so large that a step of int8 swallows the others.
  for (std::size_t c = 0; c < 3; ++c) version.ready.weights[8 * c] = 0;
  Rng rng(5);
  for (float& value : own) value = static_cast<float>(uniform_unit(rng));
  for (std::size_t i = 0; i < own.size(); i += 8) own[i] = 1000;
  int8.ranges = calibrate(inference_spec(version.ready.release), version.ready.weights, own).value();
  int8.tolerance = 1e30F;
  SECTION("whatever the manifest tolerates") { known.assign(own.begin(), own.begin() + 8); }
  SECTION("by ranges of nothing") {
    known.assign(own.begin(), own.begin() + 8);
    for (auto& range : int8.ranges.values) range = {};
  }
  SECTION("on the node's own samples, where it is right on the known input alone") { known.assign(8, 0.0F); }
  variant.known_outputs = int8.known_outputs = version.answers({}, known);
  SECTION("known answers that only the manifest's tolerance excuses") {
    own.clear();
    known.assign(8, 0.0F);
    variant.known_outputs = int8.known_outputs = version.answers({}, known);
    int8.known_outputs[0] += 0.2F;
  }
  ModelLoader loader(slowing_stopwatch());
  const auto served = loader.load(version.ready, version.manifest, "int8", {.check = own});
  INFO((served ? "" : served.error().detail));
  REQUIRE(served);
  CHECK_FALSE(is_int8((*served)->model.engine().kind));
}

TEST_CASE("an engine that is wrong for a later version is given up", "[node][inference]") {
  ModelLoader loader(slowing_stopwatch());
  const Version first(1);
  Version second(2);
  REQUIRE(is_int8((*loader.load(first.ready, first.manifest, "int8", {}))->model.engine().kind));
  second.manifest.variants[0].int8_kernels->known_outputs[0] += 0.2F;
  const auto served = loader.load(second.ready, second.manifest, "int8", {});
  REQUIRE(served);
  CHECK_FALSE(is_int8((*served)->model.engine().kind));
}

TEST_CASE("a choice among engines ends when the daemon does", "[node][inference]") {
  const Version version;
  ModelLoader* under_way = nullptr;
  int looks = 0;
  ModelLoader loader([&] {
    if (++looks == 3) under_way->stop();
    return std::chrono::nanoseconds(looks * 1000);
  });
  under_way = &loader;
  const auto stopped = loader.load(version.ready, version.manifest, "int8", {});
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == Errc::cancelled);
  const int seen = looks;
  CHECK(loader.load(version.ready, version.manifest, "int8", {}).error().code == Errc::cancelled);
  CHECK(looks == seen);
}

TEST_CASE("a version to which no engine answers as it should is refused", "[node][inference]") {
  Clock clock;
  ModelLoader loader(clock.stopwatch());
  Version version;
  version.manifest.variants[0].known_outputs[0] += 0.2F;
  version.manifest.variants[0].int8_kernels->known_outputs[0] += 0.2F;
  const auto wrong = loader.load(version.ready, version.manifest, "int8", {});
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().reason == Reason::known_answers_wrong);
  CHECK(wrong.error().detail.starts_with("no engine is right: "));

  const auto missing = loader.load(version.ready, version.manifest, "fp32", {});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().reason == Reason::bad_manifest);
}

}  // namespace
}  // namespace rivulet::node
