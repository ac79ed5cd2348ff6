#include <cmath>

#include "coordinator/core/gate.h"
#include "coordinator/work/publication.h"
#include "sim/world/toy_model.h"
#include "tests/catch.h"
#include "tests/small_model.h"

using namespace rivulet;
using namespace rivulet::coordinator;
using rivulet::testing::Blobs;
using rivulet::testing::key_of_byte;
using rivulet::testing::manifest_of;
using rivulet::testing::small_release;

namespace {

using Floats = std::vector<float>;

const Floats undecided(6);                                                  // Probabilities 1/2, 1/2.
const Floats leaning = {0, 0, 0, 0, 0, static_cast<float>(std::log(3.0))};  // 1/4, 3/4.

/// Samples whose inputs change nothing in the models above.
ScoringData labelled(std::vector<std::int64_t> labels) {
  return {Floats(labels.size() * 2), std::move(labels)};
}

/// The disk changes the lowest bit of the last float: a number as good as before, but another one.
void damage(Blobs& blobs, const ContentId& content) {
  Bytes bytes = blobs.store->read_all(content).value();
  bytes[bytes.size() - 4] ^= std::byte{1};
  REQUIRE(blobs.store->erase(content));
  REQUIRE(blobs.store->put(content, bytes));
}

/// A library that fails, or that answers what is no score.
class FailingRunner final : public ModelRunner {
 public:
  explicit FailingRunner(Result<Metrics> score) : score_(std::move(score)) {}
  Result<Floats> answers(const Release&, std::span<const float>, std::span<const float>) override {
    return fail(Errc::internal, "no memory for the network");
  }
  Result<Metrics> score(const Release&, std::span<const float>, const ScoringData&) override {
    return score_;
  }

 private:
  Result<Metrics> score_;
};

struct Scoring {
  Blobs blobs;
  Release release = small_release(blobs);
  effect::ScoreCandidate task;
  sim::ToyRunner runner;

  Scoring() {
    task.round = 9;
    task.attempt = 2;
    task.form = SnapshotForm::fp32;
    task.parent_snapshot = blobs.put_floats(undecided);
    task.candidate_snapshot = blobs.put_floats(leaning);
  }
};

/// A version of the leaning model, all but signed.
struct Sealing {
  Blobs blobs;
  Release release = small_release(blobs);
  SecretKey key = key_of_byte(4);
  effect::SealVersion task{manifest_of(blobs, release, leaning)};
  sim::ToyRunner runner;
  std::vector<ContentId> stored;

  Result<event::VersionSealed> seal(const ScoringData* test = nullptr) {
    return seal_version(task, release, {.test = test}, key, runner, *blobs.store, stored);
  }
};

}  // namespace

TEST_CASE("parent and candidate are scored on the holdout, the candidate alone on the test split",
          "[coordinator][work][scoring]") {
  Scoring scoring;
  const ScoringData holdout = labelled({0, 1, 1, 1}), test = labelled({0, 0});
  const auto scored =
      score_candidate(scoring.task, scoring.release, &holdout, &test, scoring.runner, *scoring.blobs.store);
  REQUIRE(scored);
  CHECK(scored->round == 9);
  CHECK(scored->attempt == 2);
  REQUIRE(scored->parent_central);
  CHECK(scored->parent_central->accuracy == 0.25);  // Of two equal probabilities the first class is taken.
  CHECK(scored->parent_central->loss == Approx(std::log(2.0)));
  CHECK(scored->parent_central->samples == 4);
  REQUIRE(scored->candidate_central);
  CHECK(scored->candidate_central->accuracy == 0.75);
  CHECK(scored->candidate_central->loss == Approx((std::log(4.0) + 3 * std::log(4.0 / 3.0)) / 4));
  REQUIRE(scored->candidate_test);
  CHECK(scored->candidate_test->accuracy == 0);
  CHECK(scored->candidate_test->loss == Approx(std::log(4.0)));
  CHECK(scored->candidate_test->samples == 2);
}

TEST_CASE("what has no samples, no snapshot or no answers has no score", "[coordinator][work][scoring]") {
  Scoring scoring;
  const ScoringData holdout = labelled({0, 1}), empty;
  const auto score = [&](const ScoringData* central, const ScoringData* test, ModelRunner& runner) {
    return score_candidate(scoring.task, scoring.release, central, test, runner, *scoring.blobs.store)
        .value();
  };
  const auto unscored = score(nullptr, &empty, scoring.runner);
  CHECK_FALSE(unscored.parent_central);
  CHECK_FALSE(unscored.candidate_central);
  CHECK_FALSE(unscored.candidate_test);

  FailingRunner runner(std::unexpected(Error{Errc::internal, "no memory"}));
  const auto failed = score(&holdout, &holdout, runner);
  CHECK_FALSE(failed.parent_central);
  CHECK_FALSE(failed.candidate_central);
  CHECK_FALSE(failed.candidate_test);

  REQUIRE(scoring.blobs.store->erase(scoring.task.candidate_snapshot));
  const auto half = score(&holdout, &holdout, scoring.runner);
  CHECK(half.parent_central);
  CHECK_FALSE(half.candidate_central);
  CHECK_FALSE(half.candidate_test);
}

TEST_CASE("a loss that is not finite is a score, and one that the gate refuses",
          "[coordinator][work][scoring]") {
  Scoring scoring;
  const ScoringData holdout = labelled({0, 1});
  ValidationConfig config;
  config.mode = ValidationMode::central;
  for (const double loss : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    FailingRunner runner(Metrics{0.5, loss, 2});
    const auto scored =
        score_candidate(scoring.task, scoring.release, &holdout, nullptr, runner, *scoring.blobs.store);
    REQUIRE(scored);
    REQUIRE(scored->candidate_central);
    CHECK_FALSE(std::isfinite(scored->candidate_central->loss));
    const GateEvidence evidence{
        {}, true, scored->parent_central, scored->candidate_central, scored->candidate_test};
    CHECK(decide(evidence, config).outcome == GateOutcome::refuse);
  }
}

TEST_CASE("snapshots that the disk has changed are not scored, and a disk that fails is told of",
          "[coordinator][work][scoring]") {
  Scoring scoring;
  const ScoringData holdout = labelled({0, 1});
  const auto score = [&] {
    return score_candidate(scoring.task, scoring.release, &holdout, &holdout, scoring.runner,
                           *scoring.blobs.store);
  };
  damage(scoring.blobs, scoring.task.candidate_snapshot);
  const auto scored = score();
  REQUIRE(scored);
  CHECK(scored->parent_central);
  CHECK_FALSE(scored->candidate_central);
  CHECK_FALSE(scored->candidate_test);
  Rng rng(1);
  scoring.blobs.disk.crash(rng);
  REQUIRE_FALSE(score());
  CHECK(score().error().code == Errc::storage);
}

TEST_CASE("a version is sealed with every variant that its release names",
          "[coordinator][work][publication]") {
  Sealing sealing;
  const ScoringData test = labelled({0, 1, 1, 1});
  const auto sealed = sealing.seal(&test);
  REQUIRE(sealed);
  VersionManifest expected = sealing.task.manifest;
  const auto& variants = sealed->manifest.variants;
  REQUIRE(variants.size() == 2);
  for (std::size_t i : {0u, 1u}) {
    CAPTURE(i);
    const auto bytes = sealing.blobs.store->read_all(variants[i].content);
    REQUIRE(bytes);
    CHECK(variants[i].name == (i == 0 ? "fp32" : "int8"));
    CHECK(variants[i].bytes == bytes->size());
    // fp32: 6 floats. int8: a scale and two steps for each class, and the bias as float32.
    CHECK(bytes->size() == (i == 0 ? 24 : 2 * (2 + 2) + 8));
    REQUIRE(variants[i].known_outputs.size() == 2);
    // A scale has 8 significant bits.
    CHECK(variants[i].known_outputs[0] == Approx(0.25).epsilon(i == 0 ? 1e-5 : 0.01));
    CHECK(variants[i].known_outputs[1] == Approx(0.75).epsilon(i == 0 ? 1e-5 : 0.01));
    CHECK(variants[i].tolerance > 0);
    CHECK(variants[i].accuracy == std::optional(0.75));
  }
  CHECK(variants[0].content == sealing.task.manifest.snapshot);  // The same bytes are stored once.
  REQUIRE(sealed->metrics);
  CHECK(sealed->metrics->accuracy == 0.75);

  CHECK(verify_envelope(sealing.key.public_key(), Context::version, sealed->envelope));
  CHECK_FALSE(verify_envelope(sealing.key.public_key(), Context::release, sealed->envelope));
  expected.variants = variants;
  CHECK(sealed->manifest == expected);  // Nothing else of it has changed.
  CHECK(decode_version(sealed->envelope.payload).value() == expected);
}

TEST_CASE("without a test split variants have answers, but no accuracy", "[coordinator][work][publication]") {
  Sealing sealing;
  const ScoringData empty;
  for (const ScoringData* none : {static_cast<const ScoringData*>(nullptr), &empty}) {
    const auto sealed = sealing.seal(none);
    REQUIRE(sealed);
    CHECK_FALSE(sealed->metrics);
    for (const VariantInfo& variant : sealed->manifest.variants) {
      CHECK_FALSE(variant.accuracy);
      CHECK(variant.known_outputs.size() == 2);
    }
  }
}

TEST_CASE("a version that cannot be derived or does not fit in a frame is not sealed",
          "[coordinator][work][publication]") {
  Sealing sealing;
  SECTION("its snapshot is gone") {
    REQUIRE(sealing.blobs.store->erase(sealing.task.manifest.snapshot));
    const auto sealed = sealing.seal();
    REQUIRE_FALSE(sealed);
    CHECK(sealed.error().code == Errc::not_found);
    CHECK(sealed.error().detail.starts_with("the version's snapshot: "));
  }
  SECTION("the disk has changed its snapshot") {
    damage(sealing.blobs, sealing.task.manifest.snapshot);
    const auto sealed = sealing.seal();
    REQUIRE_FALSE(sealed);
    CHECK(sealed.error().code == Errc::corrupt);
    CHECK(sealed.error().detail.find(sealing.task.manifest.snapshot.hex()) != std::string::npos);
  }
  SECTION("its snapshot is another model's") {
    sealing.task.manifest.snapshot = sealing.blobs.put_floats({1, 2});
    CHECK(sealing.seal().error().code == Errc::corrupt);
  }
  SECTION("a variant has no answers") {
    FailingRunner runner(Metrics{1, 0, 1});
    const auto sealed = seal_version(sealing.task, sealing.release, {}, sealing.key, runner,
                                     *sealing.blobs.store, sealing.stored);
    REQUIRE_FALSE(sealed);
    CHECK(sealing.stored.size() == 1);  // Stored before it was asked for answers.
    CHECK(sealed.error().detail == "variant fp32: no memory for the network");
  }
  SECTION("the store is full") {
    sealing.release.snapshot = SnapshotForm::int8;
    sealing.task.manifest = manifest_of(sealing.blobs, sealing.release, {0, 0, 0, 0, 0, 2});
    sealing.blobs.disk.fail_next_blob_write(Errc::storage_full);
    const auto sealed = sealing.seal();
    REQUIRE_FALSE(sealed);
    CHECK(sealed.error().code == Errc::storage_full);
  }
  SECTION("it has more known answers than a frame holds") {
    // Each sample has two answers of 4 bytes in both variants: 16 bytes, so that 6,200 are more than 96 KiB.
    sealing.release.known_inputs.assign(2 * 6200, 0.0F);
    const auto sealed = sealing.seal();
    REQUIRE_FALSE(sealed);
    CHECK(sealed.error().code == Errc::too_large);
    CHECK(sealed.error().detail.find("fewer outputs or variants") != std::string::npos);
    sealing.release.known_inputs.assign(2 * 6000, 0.0F);
    CHECK(sealing.seal());
  }
}
