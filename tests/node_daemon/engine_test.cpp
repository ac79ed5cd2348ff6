#include "node/daemon/torch_engine.h"

#include <cmath>

#include "models/runtime/runtime.h"
#include "storage/memory_disk.h"
#include "tests/catch.h"
#include "tests/node_daemon/models.h"

namespace rivulet::node {
namespace {

constexpr UtcTime noon{std::chrono::milliseconds(1'700'000'000'000)};

struct Rig {
  MemoryDisk disk;
  std::unique_ptr<Store> store = make_memory_store(disk, {sample_families.begin(), sample_families.end()});
  std::unique_ptr<SampleStore> samples;
  Metrics metrics;

  explicit Rig(double holdout_fraction) {
    use_one_thread();
    auto opened = SampleStore::open(*store, {.holdout_fraction = holdout_fraction});
    REQUIRE(opened);
    samples = std::move(*opened);
  }
  void add(const std::vector<NewSample>& more) { REQUIRE(samples->add(more, noon)); }
};

std::vector<NewSample> two_clusters(std::size_t count) {
  std::vector<NewSample> samples;
  for (std::size_t i = 0; i < count; ++i) {
    const float noise = static_cast<float>(i) / static_cast<float>(count);
    const bool right = i % 2 == 0;
    samples.push_back(
        {.id = {}, .inputs = {right ? 2 + noise : -2 - noise, noise}, .label = right ? "1" : "0"});
  }
  return samples;
}

TEST_CASE("a model that rebuilds its input answers by how far off it is, one number a sample",
          "[node][engine]") {
  Rig rig(0.0);
  Release release = softmax_release(2, 2);
  release.task = TaskKind::anomaly;
  release.classes = {};
  TorchEngine engine(*rig.samples, rig.metrics);
  // All weights 0: it rebuilds 0, so each error is the mean square of the sample.
  const auto answers = engine.answers(release, std::vector<float>(release.layout.size()),
                                      std::vector<float>{1, 3, 0, 0, 2, 0});
  INFO((answers ? "" : answers.error().detail));
  REQUIRE(answers);
  CHECK(*answers == std::vector<float>{5, 0, 2});
}

TEST_CASE("a node's own samples are drawn from all that it holds, the same each time", "[node][engine]") {
  Rig rig(0.0);
  std::vector<NewSample> stored;
  for (int i = 0; i < 500; ++i) {
    stored.push_back({.id = {}, .inputs = {static_cast<float>(i), 1}, .label = "0"});
  }
  stored.push_back({.id = {}, .inputs = {1, 2, 3}, .label = "0"});  // Of another width.
  rig.add(stored);
  TorchEngine engine(*rig.samples, rig.metrics);
  const Release release = softmax_release(2, 2);
  const auto drawn = engine.own_samples(release, Split::training, 100);
  REQUIRE(drawn);
  REQUIRE(drawn->size() == 200);
  CHECK(engine.own_samples(release, Split::training, 100) == *drawn);
  std::size_t late = 0;
  for (std::size_t i = 0; i < drawn->size(); i += 2) late += (*drawn)[i] >= 250 ? 1 : 0;
  CHECK(late > 30);  // Of 100; half of all are.
  CHECK(late < 70);
  CHECK(engine.own_samples(release, Split::training, 1000)->size() == 1000);
  CHECK(engine.own_samples(release, Split::holdout, 100)->empty());
}

TEST_CASE("training on stored samples takes the first step that the gradient by hand gives",
          "[node][engine]") {
  Rig rig(0.0);
  rig.add({{.id = {}, .inputs = {2, 4}, .label = "1"}});
  Release release = softmax_release(2, 2);
  release.preprocessing = {.mean = {1}, .scale = {2}};
  TorchEngine engine(*rig.samples, rig.metrics);
  const std::vector<float> base(release.layout.size(), 0.0F);
  message::TrainingPlan plan;
  plan.learning_rate = 0.1;
  const std::atomic<bool> stop = false;
  const auto result = engine.train(release, base, plan, stop);
  REQUIRE(result);
  CHECK(result->samples == 1);
  CHECK(result->loss_first == Approx(std::log(2.0)));
  // x = (0.5, 1.5), p = (0.5, 0.5), gradient of class 1 = (p - 1) x; delta = -0.1 * gradient.
  const std::vector<double> expected = {-0.025, -0.075, 0.025, 0.075, -0.05, 0.05};
  REQUIRE(result->delta.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(result->delta[i] == Approx(expected[i]).margin(1e-6));
}

TEST_CASE("samples of another width or with an unknown label are left out and counted", "[node][engine]") {
  Rig rig(0.0);
  rig.add(two_clusters(10));
  rig.add({{.id = {}, .inputs = {1, 2, 3}, .label = "1"},
           {.id = {}, .inputs = {1, 2}, .label = "7"},
           {.id = {}, .inputs = {1, 2}, .label = std::nullopt}});
  const Release release = softmax_release(2, 2);
  TorchEngine engine(*rig.samples, rig.metrics);
  const std::vector<float> base(release.layout.size(), 0.0F);
  const std::atomic<bool> stop = false;
  const auto result = engine.train(release, base, {}, stop);
  REQUIRE(result);
  CHECK(result->samples == 10);
  CHECK(rig.metrics.text().find("rivulet_node_samples_skipped_total 2") != std::string::npos);

  const auto none = engine.train(softmax_release(5, 2), std::vector<float>(12, 0.0F), {}, stop);
  REQUIRE_FALSE(none);
  CHECK(none.error().reason == Reason::too_few_samples);
  const std::string why = none.error().detail;
  CHECK(why.find("no sample to train test on: of 12, the first: it has ") == 0);
  CHECK(why.find(" numbers, and the model test takes 5") != std::string::npos);
  const std::atomic<bool> stopped = true;
  const auto cancelled = engine.train(release, base, {}, stopped);
  REQUIRE_FALSE(cancelled);
  CHECK(cancelled.error().code == Errc::cancelled);
}

TEST_CASE(
    "a regression of several outputs says that a label is one number, and an empty store that it is empty",
    "[node][engine]") {
  Rig rig(0.0);
  Release release = softmax_release(2, 3);
  release.task = TaskKind::regression;
  release.classes.clear();
  TorchEngine engine(*rig.samples, rig.metrics);
  const std::vector<float> base(release.layout.size(), 0.0F);
  const std::atomic<bool> stop = false;
  const auto empty = engine.train(release, base, {}, stop);
  REQUIRE_FALSE(empty);
  CHECK(empty.error().detail == "no sample to train test on: none is stored");
  rig.add({{.id = {}, .inputs = {1, 2}, .label = "0.5"}});
  const auto several = engine.train(release, base, {}, stop);
  REQUIRE_FALSE(several);
  CHECK(several.error().reason == Reason::too_few_samples);
  CHECK(several.error().detail ==
        "no sample to train test on: of 1, the first: its label is one number, and the model test answers 3: "
        "import one with one output");
}

TEST_CASE("two models are scored on the same holdout, whatever arrives between them", "[node][engine]") {
  Rig rig(0.5);
  rig.add(two_clusters(200));
  const std::uint64_t holdout = rig.samples->counts().holdout;
  const Release release = softmax_release(2, 2);
  TorchEngine engine(*rig.samples, rig.metrics);
  engine.begin_comparison();
  const auto always_one = engine.score(release, constant_weights(release, 1, 3));
  rig.add(two_clusters(300));
  const auto always_zero = engine.score(release, constant_weights(release, 0, 3));
  REQUIRE(always_one);
  REQUIRE(always_zero);
  REQUIRE(always_one->right.size() == holdout);
  REQUIRE(always_zero->right.size() == holdout);
  for (std::size_t i = 0; i < holdout; ++i) CHECK(always_one->right[i] + always_zero->right[i] == 1);
  engine.begin_comparison();
  CHECK(engine.score(release, constant_weights(release, 0, 3))->right.size() ==
        rig.samples->counts().holdout);

  // Between comparisons nothing is kept: the next score sees what has come since.
  engine.end_comparison();
  rig.add(two_clusters(500));
  CHECK(engine.score(release, constant_weights(release, 0, 3))->right.size() ==
        rig.samples->counts().holdout);

  const auto answers = engine.answers(release, constant_weights(release, 1, 2), release.known_inputs);
  REQUIRE(answers);
  CHECK(answers->at(1) == Approx(std::exp(2.0) / (1 + std::exp(2.0))).epsilon(1e-6));
}

TEST_CASE("a comparison that is stopped takes no more scores", "[node][engine]") {
  Rig rig(0.5);
  rig.add(two_clusters(20));
  Release release = softmax_release(2, 2);
  const bool values = GENERATE(false, true);
  if (values) {
    release.task = TaskKind::anomaly;
    release.classes = {};
  }
  const std::vector<float> weights(release.layout.size(), 0.0F);
  TorchEngine engine(*rig.samples, rig.metrics);
  std::atomic<bool> stop = false;
  engine.begin_comparison(&stop);
  REQUIRE(engine.score(release, weights));
  stop = true;
  const auto stopped = engine.score(release, weights);
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == Errc::cancelled);
  engine.end_comparison();
  CHECK(engine.score(release, weights));
}

TEST_CASE("a comparison that is stopped reads no more samples", "[node][engine]") {
  Rig rig(0.5);
  rig.add(two_clusters(20));
  const WriteBatch damage{Put{std::string(sample_families[0]), number_key(19), copy_of(bytes_of("rubbish"))}};
  REQUIRE(rig.store->commit(damage, Durability::synced));
  const Release release = softmax_release(2, 2);
  TorchEngine engine(*rig.samples, rig.metrics);
  const std::atomic<bool> stop = true;
  engine.begin_comparison(&stop);
  const auto stopped = engine.score(release, constant_weights(release, 1, 3));
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == Errc::cancelled);  // It has not come to the damaged one.
}

TEST_CASE("statistics of its own are not worth a model: damaged samples leave it those of its version",
          "[node][engine]") {
  Rig rig(0.0);
  rig.add(two_clusters(20));
  const WriteBatch damage{Put{std::string(sample_families[0]), number_key(0), copy_of(bytes_of("rubbish"))}};
  REQUIRE(rig.store->commit(damage, Durability::synced));
  Release release = softmax_release(2, 2);
  release.batch_norm = BatchNorm::local;
  TorchEngine engine(*rig.samples, rig.metrics);
  const std::vector<float> weights = constant_weights(release, 1, 3);
  REQUIRE_FALSE(engine.train(release, weights, {}, std::atomic<bool>(false)));
  const auto local = engine.localize(release, weights);
  INFO((local ? "" : local.error().detail));
  REQUIRE(local);
  CHECK(*local == weights);
}

}  // namespace
}  // namespace rivulet::node
