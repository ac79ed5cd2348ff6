#include "coordinator/work/variants.h"

#include "tests/catch.h"
#include "tests/small_model.h"

using namespace rivulet;
using namespace rivulet::coordinator;
using rivulet::testing::Blobs;
using rivulet::testing::small_release;

namespace {

using Floats = std::vector<float>;

/// Weights that int8 rounds: 0.3 is 38.1 of 127 steps of the greatest.
const Floats weights = {0.3F, 1, 0.3F, 1, 0, 0};

/// A library whose models are worth what the test says: the version's own weights, others (its int8
/// variant's), and those in static int8.
class TellingRunner final : public ModelRunner {
 public:
  Metrics version{0.90, 0.5, 4};
  Metrics rounded{0.90, 0.5, 4};
  std::optional<double> own_time = 60;  // Of int8, where nodes find ranges of their own.
  Result<std::optional<Int8Outcome>> int8 =
      Int8Outcome{{{{0, 1}}, {}}, {0.3F, 0.7F}, Metrics{0.89, 0.5, 4}, Metrics{0.875, 0.5, 4}};

  Result<Floats> answers(const Release&, std::span<const float>, std::span<const float>) override {
    return Floats{0.25F, 0.75F};
  }
  Result<Metrics> score(const Release&, std::span<const float> w, const ScoringData&) override {
    return std::ranges::equal(w, weights) ? version : rounded;
  }
  Result<std::optional<Int8Outcome>> run_in_int8(const Release&, std::span<const float>, const ScoringData&,
                                                 const ScoringData*) override {
    return int8;
  }
  Result<std::optional<VariantCost>> cost(const Release&, std::span<const float>,
                                          const ActivationRanges* ranges) override {
    return ranges != nullptr ? VariantCost{200, 40} : VariantCost{500, 100};
  }
  std::optional<double> own_int8_time(const Release&, std::span<const float>) override { return own_time; }
};

struct Deriving {
  Blobs blobs;
  Release release = small_release(blobs);
  TellingRunner runner;
  ScoringData holdout{Floats(8), {0, 1, 1, 1}};
  ScoringData test{Floats(8), {0, 1, 1, 1}};
  std::size_t blobs_before = blobs.contents().size();
  std::vector<ContentId> stored;

  Result<DerivedVariants> derive(double tolerance = 0.02) {
    return derive_variants(release, weights, {&holdout, &test}, tolerance, runner, *blobs.store, stored);
  }
};

}  // namespace

TEST_CASE("an int8 variant brings the ranges, the answers and the accuracy of int8",
          "[coordinator][work][variants]") {
  Deriving deriving;
  const auto derived = deriving.derive();
  REQUIRE(derived);
  CHECK(derived->left_out.empty());
  REQUIRE(derived->variants.size() == 2);
  const auto& [fp32, int8] = std::tie(derived->variants[0], derived->variants[1]);
  CHECK(fp32.name == "fp32");
  CHECK(fp32.accuracy == 0.90);
  CHECK_FALSE(fp32.int8_kernels);
  CHECK(int8.name == "int8");
  CHECK(int8.accuracy == 0.875);  // What nodes will see of it.
  CHECK(int8.known_outputs == Floats{0.25F, 0.75F});
  REQUIRE(int8.int8_kernels);
  CHECK(int8.int8_kernels->ranges == ActivationRanges{{{0, 1}}, {}});
  CHECK(int8.int8_kernels->known_outputs == Floats{0.3F, 0.7F});
  CHECK(int8.int8_kernels->tolerance > int8.tolerance);
  CHECK_FALSE(int8.own_ranges);
  CHECK_FALSE(fp32.own_ranges);
}

TEST_CASE("a variant that falls below its version by more than the tolerance is left out",
          "[coordinator][work][variants]") {
  Deriving deriving;
  deriving.runner.rounded.accuracy = 0.875;  // 2.5 points.
  const auto derived = deriving.derive();
  REQUIRE(derived);
  REQUIRE(derived->variants.size() == 1);
  CHECK(derived->variants[0].name == "fp32");
  REQUIRE(derived->left_out.size() == 1);
  CHECK(derived->left_out[0].what == "int8");
  CHECK(derived->left_out[0].why ==
        "accuracy on the holdout falls from 0.9000 to 0.8750, and 0.02 is allowed");
  CHECK(deriving.blobs.contents().size() == deriving.blobs_before + 1);  // Nothing of it is kept.

  CHECK(deriving.derive(0.03)->variants.size() == 2);

  deriving.release.recipes = {"int8"};
  const auto none = deriving.derive();
  REQUIRE_FALSE(none);
  CHECK(none.error().code == Errc::refused);
}

TEST_CASE("int8 kernels that are too coarse are left out, and the variant runs in float",
          "[coordinator][work][variants]") {
  Deriving deriving;
  const char* why = "accuracy on the holdout falls from 0.9000 to 0.8700, and 0.02 is allowed";
  SECTION("worse") { (*deriving.runner.int8)->holdout.accuracy = 0.87; }
  SECTION("not finite") {
    (*deriving.runner.int8)->holdout.loss = NAN;
    why = "an answer of it is not finite";
  }
  SECTION("not to be had") {
    deriving.runner.int8 = fail(Errc::unsupported, "no part can be quantized");
    why = "no part can be quantized";
  }
  const auto derived = deriving.derive();
  REQUIRE(derived);
  REQUIRE(derived->variants.size() == 2);
  CHECK_FALSE(derived->variants[1].int8_kernels);
  CHECK_FALSE(derived->variants[1].own_ranges);  // What was found too coarse is nowhere tried again.
  CHECK(derived->variants[1].accuracy == 0.90);
  REQUIRE(derived->left_out.size() == 1);
  CHECK(derived->left_out[0].what == "int8 kernels");
  CHECK(derived->left_out[0].why == why);
}

TEST_CASE("the loss decides where the model answers values", "[coordinator][work][variants]") {
  Deriving deriving;
  deriving.release.task = TaskKind::anomaly;
  deriving.runner.rounded = {0, 0.509, 4};
  CHECK(deriving.derive()->variants.size() == 2);
  deriving.runner.rounded = {0, 0.511, 4};
  CHECK(deriving.derive()->variants.size() == 1);
}

TEST_CASE("without a holdout nothing is left out, and nothing calibrated", "[coordinator][work][variants]") {
  Deriving deriving;
  deriving.runner.rounded.accuracy = 0.1;
  const ScoringData empty;
  for (const ScoringData* none : {static_cast<const ScoringData*>(nullptr), &empty}) {
    const auto derived = derive_variants(deriving.release, weights, {none, none}, 0.02, deriving.runner,
                                         *deriving.blobs.store, deriving.stored);
    REQUIRE(derived);
    REQUIRE(derived->variants.size() == 2);
    CHECK_FALSE(derived->variants[0].own_ranges);
    CHECK_FALSE(derived->variants[1].int8_kernels);
    CHECK(derived->variants[1].own_ranges);
    CHECK_FALSE(derived->variants[1].accuracy);
  }
}

TEST_CASE("where each node has statistics of its own, each finds its own ranges",
          "[coordinator][work][variants]") {
  Deriving deriving;
  deriving.release.batch_norm = BatchNorm::local;
  const auto derived = deriving.derive();
  REQUIRE(derived);
  REQUIRE(derived->variants.size() == 2);
  CHECK_FALSE(derived->variants[1].int8_kernels);
  CHECK(derived->variants[1].own_ranges);
  CHECK(derived->left_out.empty());
}

TEST_CASE("int8 is timed as nodes run it, whoever finds its ranges", "[coordinator][work][variants]") {
  Deriving deriving;
  double expected = 40;
  std::uint64_t bytes = 200;
  SECTION("the coordinator") {}
  SECTION("each node") {
    deriving.release.batch_norm = BatchNorm::local;
    expected = 60;
    bytes = 500;  // With few samples a node runs it in float.
    SECTION("but no int8 engine runs the model") {
      deriving.runner.own_time.reset();
      expected = 100;
    }
    SECTION("but float is faster, and nodes take it") {
      deriving.runner.own_time = 150;
      expected = 100;
    }
  }
  SECTION("nobody: it runs in float") {
    deriving.runner.int8 = fail(Errc::unsupported, "no part can be quantized");
    expected = 100;
    bytes = 500;
  }
  const auto derived = deriving.derive();
  REQUIRE(derived);
  REQUIRE(derived->variants.size() == 2);
  CHECK(derived->variants[0].microseconds == 100);
  CHECK(derived->variants[1].microseconds == expected);
  CHECK(derived->variants[1].activation_bytes == bytes);
}
