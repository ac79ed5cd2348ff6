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

/// The parent looks at the first input alone, the candidate at the second: each says class 1 where it is 1.
/// Both give 3/4 to the class they choose.
const float ln3 = static_cast<float>(std::log(3.0));
const Floats by_first = {0, 0, 2 * ln3, 0, ln3, 0};
const Floats by_second = {0, 0, 0, 2 * ln3, ln3, 0};

struct Comparison {
  Blobs blobs;
  Release release = small_release(blobs);
  effect::Evaluate task;

  Comparison() {
    task.task.bytes[0] = std::byte{9};
    task.parent = manifest_of(blobs, release, by_first);
    const VersionManifest next = manifest_of(blobs, release, by_second);
    task.candidate.release_content = next.release_content;
    task.candidate.form = next.form;
    task.candidate.snapshot = next.snapshot;
    task.candidate.weights_hash = next.weights_hash;
  }
  void check_failure(Engine& engine, Reason reason) {
    const Event answer = run_evaluation(task, *blobs.store, engine).value();
    const auto* failed = std::get_if<event::TaskFailed>(&answer);
    REQUIRE(failed != nullptr);
    CAPTURE(failed->detail);
    CHECK(failed->task == task.task);
    CHECK(name(failed->reason) == name(reason));
    CHECK_FALSE(failed->detail.empty());
  }
};

/// A holdout that changes between the two scores.
class ShrinkingHoldout final : public Engine {
 public:
  Result<TrainingResult> train(const Release&, std::span<const float>, const message::TrainingPlan&,
                               const std::atomic<bool>&) override {
    return TrainingResult{};
  }
  Result<HoldoutScore> score(const Release&, std::span<const float>) override {
    return HoldoutScore{std::vector<std::uint8_t>(samples_--, 1), 0};
  }
  Result<Floats> answers(const Release&, std::span<const float>, std::span<const float>) override {
    return Floats{};
  }

 private:
  std::size_t samples_ = 3;
};

/// Whoever stops the task does so while the first score is taken.
class StoppedEngine final : public Engine {
 public:
  Result<TrainingResult> train(const Release&, std::span<const float>, const message::TrainingPlan&,
                               const std::atomic<bool>&) override {
    return TrainingResult{};
  }
  Result<HoldoutScore> score(const Release&, std::span<const float>) override {
    ++scores;
    stop = true;
    return fail(Errc::cancelled, "the evaluation was stopped");
  }
  Result<Floats> answers(const Release&, std::span<const float>, std::span<const float>) override {
    return Floats{};
  }

  std::atomic<bool> stop = false;
  int scores = 0;
};

}  // namespace

TEST_CASE("an evaluation that is stopped answers nothing, and one that was stopped before does nothing",
          "[node][work]") {
  Comparison comparison;
  StoppedEngine engine;
  CHECK_FALSE(run_evaluation(comparison.task, *comparison.blobs.store, engine, &engine.stop));
  const int scores = engine.scores;
  CHECK(scores > 0);
  CHECK_FALSE(run_evaluation(comparison.task, *comparison.blobs.store, engine, &engine.stop));
  CHECK(engine.scores == scores);
}

TEST_CASE("an evaluation counts each sample once, by who was right on it", "[node][work]") {
  Comparison comparison;
  // Inputs and labels: parent and candidate are right as the comments say.
  sim::ToyEngine engine({2, {}, {}}, {2,
                                      {1, 1, 0, 0,               // both
                                       1, 0, 1, 0, 0, 1,         // the parent alone
                                       0, 1,                     // the candidate alone
                                       0, 0, 0, 0, 1, 1, 0, 0},  // neither
                                      {1, 0, 1, 1, 0, 1, 1, 1, 0, 1}});
  const Event answer = run_evaluation(comparison.task, *comparison.blobs.store, engine).value();
  const auto* done = std::get_if<event::EvaluationDone>(&answer);
  REQUIRE(done != nullptr);
  CHECK(done->task == comparison.task.task);
  CHECK(done->both_right == 2);
  CHECK(done->parent_only == 3);
  CHECK(done->candidate_only == 1);
  CHECK(done->both_wrong == 4);
  // -ln(3/4) where a model is right, -ln(1/4) where it is wrong.
  const double right = std::log(4.0 / 3.0), wrong = std::log(4.0);
  CHECK(done->parent_loss_sum == Approx(5 * right + 5 * wrong));
  CHECK(done->candidate_loss_sum == Approx(3 * right + 7 * wrong));
}

TEST_CASE("what is judged is the variant that would be served", "[node][work]") {
  Comparison comparison;
  comparison.release.limits.max_distance = 200;
  comparison.task.parent = manifest_of(comparison.blobs, comparison.release, by_first);
  // To (0, 1) it says class 1, since 0.4 is more than 0.2; in int8, with a step of 1 in this row, 0.4 is 0.
  const VersionManifest fine = manifest_of(comparison.blobs, comparison.release, {0, 0, 127, 0.4F, 0.2F, 0});
  comparison.task.candidate.release_content = fine.release_content;
  comparison.task.candidate.snapshot = fine.snapshot;
  comparison.task.candidate.weights_hash = fine.weights_hash;
  sim::ToyEngine engine({2, {}, {}}, {2, {0, 1}, {1}});
  for (const char* variant : {"fp32", "int8"}) {
    CAPTURE(variant);
    comparison.task.variant = variant;
    const Event answer = run_evaluation(comparison.task, *comparison.blobs.store, engine).value();
    const auto* done = std::get_if<event::EvaluationDone>(&answer);
    REQUIRE(done != nullptr);
    const bool plain = comparison.task.variant == "fp32";
    CHECK(done->candidate_only == (plain ? 1 : 0));
    CHECK(done->both_wrong == (plain ? 0 : 1));
  }
}

TEST_CASE("an evaluation that cannot be done fails its task for a reason", "[node][work]") {
  Comparison comparison;
  sim::ToyEngine engine({2, {}, {}}, {2, {0, 0}, {0}});
  SECTION("without the release") {
    comparison.task.parent.release_content = ContentId{};
    comparison.check_failure(engine, Reason::corrupt_content);
  }
  SECTION("with a parent that is not the one that was signed") {
    comparison.task.parent.weights_hash = Digest{};
    comparison.check_failure(engine, Reason::corrupt_content);
  }
  SECTION("with a candidate that is not the one that was signed") {
    comparison.task.candidate.weights_hash = comparison.task.parent.weights_hash;
    comparison.check_failure(engine, Reason::corrupt_content);
  }
  SECTION("with a candidate that is gone") {
    REQUIRE(comparison.blobs.store->erase(comparison.task.candidate.snapshot));
    comparison.check_failure(engine, Reason::corrupt_content);
  }
  SECTION("when the engine says why") {
    FailingEngine failing({Errc::internal, "no memory", Reason::not_loadable});
    comparison.check_failure(failing, Reason::not_loadable);
  }
  SECTION("when the engine has no samples") {
    FailingEngine failing({Errc::invalid, "there are none"});
    comparison.check_failure(failing, Reason::too_few_samples);
  }
  SECTION("when the disk fails") {
    FailingEngine failing({Errc::storage, "the samples cannot be read"});
    comparison.check_failure(failing, Reason::storage_failed);
  }
  SECTION("when the two were not scored on the same samples") {
    ShrinkingHoldout shrinking;
    comparison.check_failure(shrinking, Reason::too_few_samples);
  }
}
