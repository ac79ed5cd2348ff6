#include <cmath>
#include <set>

#include "node/work/tasks.h"
#include "protocol/codec/codec.h"
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
constexpr std::uint16_t int8 = 1;

/// One sample x = (1, 0) of class 0, and weights of zero, which give both classes 1/2: the gradient of the
/// logits is (-1/2, 1/2), so that a step of rate 1 is dW = [1/2 0; -1/2 0] and db = (1/2, -1/2), of norm 1.
struct OneSample {
  Blobs blobs;
  Release release = small_release(blobs);
  sim::ToyEngine engine{{2, {1, 0}, {0}}, {2, {}, {}}};
  std::atomic<bool> stop = false;
  effect::Train task;

  OneSample() {
    task.task.bytes[0] = std::byte{9};
    task.base = manifest_of(blobs, release, Floats(6));
    task.plan.learning_rate = 1;
    task.plan.seed = 5;
  }
  std::optional<Event> run(Engine& by) { return run_training(task, *blobs.store, by, stop); }
  event::TrainingDone done() {
    const auto answer = run(engine);
    REQUIRE(answer);
    REQUIRE(std::holds_alternative<event::TrainingDone>(*answer));
    return std::get<event::TrainingDone>(*answer);
  }
  std::string hex_of(const ContentId& content) { return to_hex(blobs.store->read_all(content).value()); }
  /// The task fails for this reason, and leaves nothing behind.
  void check_failure(Engine& by, Reason reason) {
    const auto before = blobs.contents();
    const auto answer = run(by);
    REQUIRE(answer);
    const auto* failed = std::get_if<event::TaskFailed>(&*answer);
    REQUIRE(failed != nullptr);
    CAPTURE(failed->detail);
    CHECK(failed->task == task.task);
    CHECK(name(failed->reason) == name(reason));
    CHECK_FALSE(failed->detail.empty());
    CHECK(blobs.contents() == before);
  }
};

const std::string six_entries = "0600000000000000";

/// An engine whose delta is what the test says.
class FixedDelta final : public Engine {
 public:
  explicit FixedDelta(Floats delta) : delta_(std::move(delta)) {}
  Result<TrainingResult> train(const Release&, std::span<const float>, const message::TrainingPlan&,
                               const std::atomic<bool>&) override {
    return TrainingResult{delta_, 1, 0, 0};
  }
  Result<HoldoutScore> score(const Release&, std::span<const float>) override { return HoldoutScore{}; }
  Result<Floats> answers(const Release&, std::span<const float>, std::span<const float>) override {
    return Floats{};
  }

 private:
  Floats delta_;
};

}  // namespace

TEST_CASE("a training's delta is stored in the plan's codec, and announced with its facts", "[node][work]") {
  OneSample one;
  SECTION("as float32") {
    const auto done = one.done();
    CHECK(one.hex_of(done.content) == six_entries +
                                          "18000000"
                                          "0000003f"
                                          "00000000"
                                          "000000bf"
                                          "00000000"
                                          "0000003f"
                                          "000000bf");
    CHECK(done.content_bytes == 8 + 4 + 6 * 4);
    CHECK(done.task == one.task.task);
    CHECK(done.parameter_count == 6);
    CHECK(done.sample_count == 1);
    CHECK(done.loss_first == Approx(std::log(2.0)));
  }
  SECTION("clipped to the norm bound: half of it is half of each entry") {
    one.task.plan.norm_bound = 0.5;
    const auto done = one.done();
    CHECK(one.hex_of(done.content) == six_entries +
                                          "18000000"
                                          "0000803e"
                                          "00000000"
                                          "000080be"
                                          "00000000"
                                          "0000803e"
                                          "000080be");
  }
  SECTION("not clipped below the bound") {
    one.task.plan.norm_bound = 1.5;
    CHECK(one.hex_of(one.done().content).find("0000003f") != std::string::npos);
  }
  SECTION("as int8: the largest entry is 127 steps") {
    one.task.plan.codec = int8;
    // Integers of up to 127 have the scale 1, and are no matter of rounding.
    FixedDelta engine({127, 0, -127, 1, -2, 64});
    const auto answer = one.run(engine);
    REQUIRE(answer);
    const auto done = std::get<event::TrainingDone>(*answer);
    CHECK(one.hex_of(done.content) == six_entries +
                                          "0a000000"
                                          "0000803f"
                                          "7f0081"
                                          "01fe40");
    CHECK(done.content_bytes == 8 + 4 + 4 + 6);
  }
}

TEST_CASE("the same task rounds its delta in the same way, another task in another", "[node][work]") {
  OneSample one;
  one.task.plan.codec = int8;
  const Floats delta = {127, 0.5F, 0.5F, 0.5F, 0.5F, 0.5F};  // Five coins of 1/2.
  FixedDelta engine(delta);
  const auto content = [&] { return std::get<event::TrainingDone>(one.run(engine).value()).content; };
  const ContentId first = content();
  CHECK(content() == first);
  std::set<ContentId> contents = {first};
  Floats sum(6);
  constexpr int tasks = 400;
  for (int task = 0; task < tasks; ++task) {
    one.task.task.bytes[1] = static_cast<std::byte>(task);
    one.task.task.bytes[2] = static_cast<std::byte>(task >> 8);
    const auto wire = one.blobs.store->read_all(content()).value();
    const auto decoded = EncodedDelta::parse(Codec::int8, wire, 6)->decode().value();
    for (std::size_t i = 0; i < 6; ++i) sum[i] += decoded[i];
    contents.insert(content_id_of(wire));
  }
  CHECK(contents.size() == 32);  // All that five coins can show.
  CHECK(sum[0] == 127 * tasks);
  // The mean of 400 coins of 0 or 1 has a standard deviation of 0.025; 0.125 is five of them.
  for (std::size_t i = 1; i < 6; ++i) CHECK(sum[i] / tasks == Approx(0.5).margin(0.125));
}

TEST_CASE("a training that cannot be done fails its task for a reason, and leaves nothing", "[node][work]") {
  OneSample one;
  SECTION("without the release") {
    one.task.base.release_content = ContentId{};
    one.check_failure(one.engine, Reason::corrupt_content);
  }
  SECTION("with a snapshot of other weights than those that were signed") {
    one.task.base.weights_hash = weights_hash_of(Floats{1, 2, 3, 4, 5, 6});
    one.check_failure(one.engine, Reason::corrupt_content);
  }
  SECTION("from weights that are too far from the first ones") {
    one.task.base = manifest_of(one.blobs, one.release, {101, 0, 0, 0, 0, 0});
    one.check_failure(one.engine, Reason::corrupt_content);
  }
  SECTION("in a codec that nobody knows") {
    one.task.plan.codec = 2;
    one.check_failure(one.engine, Reason::training_failed);
  }
  SECTION("when the engine says why") {
    FailingEngine engine({Errc::refused, "the loss is nan", Reason::training_diverged});
    one.check_failure(engine, Reason::training_diverged);
  }
  SECTION("when the engine fails without a reason") {
    FailingEngine engine({Errc::internal, "no memory"});
    one.check_failure(engine, Reason::training_failed);
  }
  SECTION("to a delta that is not finite") {
    FixedDelta engine({1, 2, 3, 4, 5, NAN});
    one.check_failure(engine, Reason::training_diverged);
  }
  SECTION("when the disk is full") {
    one.blobs.disk.fail_next_blob_write(Errc::storage_full);
    one.check_failure(one.engine, Reason::storage_full);
    CHECK(one.done().content_bytes == 36);  // It is room alone that was missing.
  }
  SECTION("when the disk fails") {
    one.blobs.disk.fail_next_blob_write(Errc::storage);
    one.check_failure(one.engine, Reason::storage_failed);
  }
}

TEST_CASE("a training that was stopped answers nothing", "[node][work]") {
  OneSample one;
  FailingEngine engine({Errc::cancelled, "the training was stopped"});
  const auto before = one.blobs.contents();
  CHECK_FALSE(one.run(engine));
  CHECK(one.blobs.contents() == before);
}
