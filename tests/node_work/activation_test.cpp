#include <algorithm>
#include <cmath>

#include "node/work/tasks.h"
#include "sim/world/toy_model.h"
#include "tests/catch.h"
#include "tests/node_work/failing_engine.h"
#include "tests/small_model.h"

using namespace rivulet;
using namespace rivulet::node;
using rivulet::testing::Blobs;
using rivulet::testing::FailingEngine;
using rivulet::testing::manifest_of;
using rivulet::testing::small_release;

namespace {

using Floats = std::vector<float>;

/// The class 0 for everything, with probability 3/4.
const float ln3 = static_cast<float>(std::log(3.0));
const Floats constant = {0, 0, 0, 0, ln3, 0};
/// The same, but class 1 where the first input is 1.
const Floats deviating = {0, 0, 2 * ln3, 0, ln3, 0};

/// 100 samples: `ones` have the first input 1. All have the class `label`.
sim::ToyData holdout(std::size_t ones, std::int64_t label, std::size_t count = 100) {
  sim::ToyData data{2, Floats(2 * count), std::vector<std::int64_t>(count, label)};
  for (std::size_t i = 0; i < ones; ++i) data.samples[2 * i] = 1;
  return data;
}

/// A version of the deviating model that is tried while the constant one serves.
struct Trial {
  Blobs blobs;
  Release release = small_release(blobs);
  sim::ToyData data = holdout(0, 0);
  ActivationRules rules;
  effect::Activate effect;

  Trial() { offer(deviating, "fp32"); }

  /// The manifest of `weights` with the one variant, as its coordinator derives it.
  void offer(const Floats& weights, const std::string& recipe) {
    effect.manifest = manifest_of(blobs, release, weights);
    effect.variant = recipe;
    const SnapshotForm form = variant_form(recipe, release.snapshot);
    const Bytes bytes = encode_snapshot(form, release.layout, weights).value();
    VariantInfo variant;
    variant.name = recipe;
    variant.content = content_id_of(bytes);
    variant.bytes = bytes.size();
    variant.known_outputs = {0.25F, 0.75F};  // To (1, 0).
    variant.tolerance = 1e-3F;
    effect.manifest.variants = {variant};
  }
  VariantInfo& variant() { return effect.manifest.variants.front(); }
  Result<Activation> prepare(const Activation* active = nullptr) {
    sim::ToyEngine engine({2, {}, {}}, data);
    return prepare_activation(effect, active, rules, *blobs.store, engine);
  }
  Result<Activation> prepare_beside_constant() {
    const Activation active{release, constant};
    return prepare(&active);
  }
  void check_refused(Reason reason, const std::string& words) { check_refused(prepare(), reason, words); }
  static void check_refused(const Result<Activation>& ready, Reason reason, const std::string& words) {
    REQUIRE_FALSE(ready);
    CAPTURE(ready.error().detail);
    CHECK(name(ready.error().reason) == name(reason));
    CHECK(ready.error().detail.find(words) != std::string::npos);
  }
};

}  // namespace

TEST_CASE("a version that is what was signed is ready with its release and its variant's weights",
          "[node][work]") {
  Trial trial;
  const auto plain = trial.prepare();
  REQUIRE(plain);
  CHECK(plain->release == trial.release);
  CHECK(plain->weights == deviating);

  // 127 and 0.4: with the scale 1 the int8 variant serves (127, 0), whatever w_t has.
  const Floats coarse = {127, 0.25F, 0, 0, 0, 0};
  trial.release.limits.max_distance = 200;
  trial.offer(coarse, "int8");
  trial.variant().known_outputs = {1, 0};
  const auto coded = trial.prepare();
  REQUIRE(coded);
  CHECK(coded->weights == Floats{127, 0, 0, 0, 0, 0});
}

TEST_CASE("a node derives the variants of a pruned version in their sparse forms", "[node][work]") {
  const std::string recipe = GENERATE("fp32", "int8");
  Trial trial;
  trial.release.snapshot = SnapshotForm::sparse_fp32;
  trial.release.pruning = {.sparsity = 0.7, .begin = 0, .rounds = 1};
  trial.offer(deviating, recipe);
  const auto ready = trial.prepare();
  REQUIRE(ready);
  // In int8 the scale is rounded to the 8 significant bits of a bfloat16.
  CHECK(ready->weights[2] == Approx(2 * ln3).epsilon(recipe == "int8" ? 1.0 / 256 : 1e-6));
  CHECK(std::ranges::count(ready->weights, 0.0F) == 4);

  const Bytes dense = encode_snapshot(dense_form(variant_form(recipe, trial.release.snapshot)),
                                      trial.release.layout, deviating)
                          .value();
  trial.variant().content = content_id_of(dense);
  trial.check_refused(Reason::bad_manifest, "is not what its recipe makes");
}

TEST_CASE("a version that is not what was signed is not served", "[node][work]") {
  Trial trial;
  SECTION("its release is gone") {
    trial.effect.manifest.release_content = ContentId{};
    trial.check_refused(Reason::not_loadable, "");
  }
  SECTION("its release is no release") {
    trial.effect.manifest.release_content = trial.blobs.put(bytes_of("rubbish"));
    trial.check_refused(Reason::not_loadable, "");
  }
  SECTION("its snapshot is gone") {
    REQUIRE(trial.blobs.store->erase(trial.effect.manifest.snapshot));
    trial.check_refused(Reason::not_loadable, "");
  }
  SECTION("its weights have another hash") {
    trial.effect.manifest.weights_hash = weights_hash_of(constant);
    trial.check_refused(Reason::corrupt_content, "hash");
  }
  SECTION("its weights are too far from the first ones") {
    trial.release.limits.max_distance = 1;
    trial.offer(deviating, "fp32");
    trial.check_refused(Reason::corrupt_content, "from w_0; the release allows 1");
  }
  SECTION("its variant is not what the recipe makes of the weights") {
    trial.variant().content = content_id_of(bytes_of("something else"));
    trial.check_refused(Reason::bad_manifest, "variant fp32 is not what its recipe makes");
  }
}

TEST_CASE("a version answers the known inputs within the tolerance, or is not served", "[node][work]") {
  Trial trial;
  SECTION("the right number of answers") {
    trial.variant().known_outputs = {0.25F};
    trial.check_refused(Reason::bad_manifest, "number of known answers");
  }
  SECTION("an answer that is off") {
    trial.variant().known_outputs = {0.25F, 0.76F};
    trial.check_refused(Reason::known_answers_wrong, "answer 1 is 0.75");
  }
  SECTION("as far off as the tolerance is, and further") {
    trial.variant().known_outputs = {0.25F, 0.5F};
    trial.variant().tolerance = 0.26F;
    CHECK(trial.prepare());
    trial.variant().tolerance = 0.24F;
    trial.check_refused(Reason::known_answers_wrong, "answer 1");
  }
  SECTION("not a number is no answer, whatever the tolerance") {
    trial.variant().known_outputs = {NAN, 0.75F};
    trial.variant().tolerance = INFINITY;
    trial.check_refused(Reason::known_answers_wrong, "answer 0");
  }
  SECTION("an engine that cannot load it") {
    FailingEngine engine({Errc::internal, "no memory for the network"});
    Trial::check_refused(prepare_activation(trial.effect, nullptr, trial.rules, *trial.blobs.store, engine),
                         Reason::not_loadable, "no memory");
  }
}

TEST_CASE("a trial that loses too much on the node's own samples is refused", "[node][work]") {
  Trial trial;
  struct Case {
    std::size_t losses;
    bool taken;
  };
  // Of 100 samples. By 5 in 100 accuracy may fall; 6 losses without a win have odds of 1/64, 7 of 1/128.
  const auto [losses, taken] =
      GENERATE(values<Case>({{0, true}, {5, true}, {6, true}, {7, false}, {40, false}}));
  CAPTURE(losses);
  trial.data = holdout(losses, 0);
  const auto ready = trial.prepare_beside_constant();
  CHECK(ready.has_value() == taken);
  if (!taken) Trial::check_refused(ready, Reason::worse_on_holdout, "100 own samples would fall by 0.");
}

TEST_CASE("a trial whose values are further off on the node's own samples is refused", "[node][work]") {
  /// In service each of 100 samples is off by 1; of the trial `worse` ones by `error`, the rest by 0.9.
  class ValuesEngine final : public Engine {
   public:
    ValuesEngine(std::size_t worse, float error) : worse_(worse), error_(error) {}
    Result<TrainingResult> train(const Release&, std::span<const float>, const message::TrainingPlan&,
                                 const std::atomic<bool>&) override {
      return fail(Errc::unsupported, "nothing is trained here");
    }
    Result<HoldoutScore> score(const Release&, std::span<const float> weights) override {
      HoldoutScore score{std::vector<std::uint8_t>(100), 0, Floats(100, 1)};
      if (!std::ranges::equal(weights, constant)) {
        for (std::size_t i = 0; i < 100; ++i) score.losses[i] = i < worse_ ? error_ : 0.9F;
      }
      for (const float loss : score.losses) score.loss_sum += loss;
      return score;
    }
    Result<Floats> answers(const Release&, std::span<const float>, std::span<const float>) override {
      return Floats{0.25F, 0.75F};
    }

   private:
    std::size_t worse_;
    float error_;
  };
  struct Case {
    std::size_t worse;
    float error;
    bool taken;
  };
  const auto [worse, error, taken] = GENERATE(values<Case>({
      {0, 1, true},
      {100, 1.04F, true},  // By 5 in 100 the error may grow.
      {100, 1.06F, false},
      {2, 100, true},  // Grows a lot, but two samples may be chance.
      {70, 2, false},
  }));
  CAPTURE(worse, error);
  Trial trial;
  trial.release.task = TaskKind::regression;
  trial.release.classes = {};
  trial.release.known_inputs = {1, 0};
  trial.offer(deviating, "fp32");
  const Activation active{trial.release, constant};
  ValuesEngine engine(worse, error);
  const auto ready = prepare_activation(trial.effect, &active, trial.rules, *trial.blobs.store, engine);
  INFO((ready ? "" : ready.error().detail));
  CHECK(ready.has_value() == taken);
  if (!taken)
    Trial::check_refused(ready, Reason::worse_on_holdout, "the error on 100 own samples would grow");
}

TEST_CASE("tolerance and significance are the node's own", "[node][work]") {
  Trial trial;
  trial.data = holdout(7, 0);
  trial.rules.tolerance = 0.07;
  CHECK(trial.prepare_beside_constant());
  trial.rules.tolerance = 0.069;
  CHECK_FALSE(trial.prepare_beside_constant());
  trial.rules.significance = 0.0078;  // 1/128 is 0.0078125.
  CHECK(trial.prepare_beside_constant());
}

TEST_CASE("a trial that is better, or that nothing can be compared with, is taken", "[node][work]") {
  Trial trial;
  trial.data = holdout(40, 0);  // With class 0 a clear loss.
  REQUIRE_FALSE(trial.prepare_beside_constant());
  SECTION("it is right where the one in service is wrong") {
    trial.data = holdout(40, 1);
    CHECK(trial.prepare_beside_constant());
  }
  SECTION("nothing serves") { CHECK(trial.prepare()); }
  SECTION("it is restored, not tried") {
    trial.effect.kind = effect::Activate::Kind::restoration;
    CHECK(trial.prepare_beside_constant());
  }
  SECTION("there are too few samples") {
    trial.rules.holdout_min = 101;
    CHECK(trial.prepare_beside_constant());
  }
  SECTION("the model in service has another name") {
    Activation other{trial.release, constant};
    other.release.name = "other";
    CHECK(trial.prepare(&other));
  }
  SECTION("the model in service has other classes") {
    Activation other{trial.release, constant};
    other.release.classes = {"yes", "no"};
    CHECK(trial.prepare(&other));
  }
}

TEST_CASE("a trial is not refused for samples that cannot be read", "[node][work]") {
  class UnreadableSamples final : public Engine {
   public:
    Result<TrainingResult> train(const Release&, std::span<const float>, const message::TrainingPlan&,
                                 const std::atomic<bool>&) override {
      return fail(Errc::corrupt, "a stored sample does not have the form of one");
    }
    Result<HoldoutScore> score(const Release&, std::span<const float>) override {
      return fail(Errc::corrupt, "a stored sample does not have the form of one", Reason::too_few_samples);
    }
    Result<Floats> answers(const Release&, std::span<const float>, std::span<const float>) override {
      return Floats{0.25F, 0.75F};
    }
  };
  Trial trial;
  UnreadableSamples engine;
  const Activation active{trial.release, constant};
  const auto ready = prepare_activation(trial.effect, &active, trial.rules, *trial.blobs.store, engine);
  INFO((ready ? "" : ready.error().detail));
  CHECK(ready);
}

TEST_CASE("a roll-back to what this node has judged before is not held against what it leaves",
          "[node][work]") {
  Trial trial;
  trial.data = holdout(40, 0);
  REQUIRE_FALSE(trial.prepare_beside_constant());
  trial.effect.kind = effect::Activate::Kind::rollback;
  CHECK(trial.prepare_beside_constant());
}

TEST_CASE("the sign test's odds are those of the binomial table", "[node][work]") {
  // Sums of C(n, k) for k >= losses, over 2^n.
  CHECK(sign_test(0, 0) == Approx(1));
  CHECK(sign_test(0, 5) == Approx(1));
  CHECK(sign_test(1, 0) == Approx(1.0 / 2));
  CHECK(sign_test(5, 0) == Approx(1.0 / 32));
  CHECK(sign_test(3, 1) == Approx(5.0 / 16));
  CHECK(sign_test(10, 0) == Approx(1.0 / 1024));
  CHECK(sign_test(9, 1) == Approx(11.0 / 1024));
  CHECK(sign_test(8, 2) == Approx(56.0 / 1024));
  CHECK(sign_test(7, 3) == Approx(176.0 / 1024));
  CHECK(sign_test(5, 5) == Approx(638.0 / 1024));
  CHECK(sign_test(15, 5) == Approx(21'700.0 / 1'048'576));
  CHECK(sign_test(14, 6) == Approx(60'460.0 / 1'048'576));
  // Beyond tables: the exact sum, and what lies below it is as likely as what lies above.
  CHECK(sign_test(600, 400) == Approx(1.3642320780330092e-10));
  for (const std::uint64_t losses : {1u, 17u, 50u, 51u, 99u, 100u}) {
    CHECK(sign_test(losses, 100 - losses) + sign_test(101 - losses, losses - 1) == Approx(1));
  }
  // As many pairs as a large holdout has take no other form.
  CHECK(sign_test(100'000, 100'000) == Approx(0.5).margin(0.001));
}
