#include "node/core/serving.h"
#include "tests/catch.h"
#include "tests/node_core/rig.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

namespace {

using Kind = effect::Activate::Kind;

/// A node whose driver answers to loading and trying only when the test does.
struct Trying : Rig {
  explicit Trying(Fleet& the_fleet) : Rig(the_fleet) {
    for (const auto& manifest : {first, second, third}) serve(model, manifest);
    boot();
    run();
  }
  void assign(const VersionManifest& manifest) { hear(message::Assignment{fleet.sealed(manifest)}); }
  /// Serves it, and leaves all that comes after to the test.
  void settle_on(const VersionManifest& manifest) {
    activates = true;
    assign(manifest);
    REQUIRE(in_service == manifest.version);
    activates = false;
  }
  void restart() {
    crash();
    boot();
    run();
  }
  /// As a driver answers that has asked whether it may swap.
  void finish(std::uint64_t manifest) {
    if (wants_activation(state, manifest)) return step(event::ActivationDone{manifest});
    step(event::ActivationFailed{manifest, Reason::none, "taken back"});
  }
  [[nodiscard]] int begun(Kind kind, std::uint64_t manifest) const {
    int count = 0;
    for (const auto& one : done_of<effect::Activate>()) {
      count += one.kind == kind && one.manifest.manifest_version == manifest ? 1 : 0;
    }
    return count;
  }
  /// Has it score a candidate, until the test says what came of it.
  void judge_candidate_of(const VersionManifest& base) {
    library[fleet.candidate(base, 2).snapshot] = {};
    evaluates = false;
    hear(fleet.evaluation(2, base));
    REQUIRE(done_of<effect::Evaluate>().size() == 1);
    clear();
  }
  /// How often it has been stopped, and how often begun, since clear().
  using Counts = std::pair<std::size_t, std::size_t>;
  [[nodiscard]] Counts stopped_and_begun() const {
    return {done_of<effect::StopTask>().size(), done_of<effect::Evaluate>().size()};
  }
  void check_reported() const {
    CHECK(sent_of<message::Evaluation>().size() == 1);
    CHECK(sent_of<message::Declined>().empty());
  }

  Model model = fleet.model();
  VersionManifest first = fleet.manifest(model, 1, 1);
  VersionManifest second = fleet.manifest(model, 2, 2);
  VersionManifest third = fleet.manifest(model, 3, 3);
};

}  // namespace

TEST_CASE("a version that ends the process in its trial is tried three times, and not at every start",
          "[node][serving][attempts]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.assign(rig.second);
  const bool offline = GENERATE(false, true);
  rig.answers_connect = !offline;
  for (int i = 0; i < 2; ++i) {
    rig.restart();
    rig.finish(1);
  }
  CHECK(rig.begun(Kind::trial, 2) == 3);
  rig.clear();
  rig.restart();
  rig.finish(1);
  CHECK(rig.begun(Kind::trial, 2) == 0);
  CHECK(rig.noticed("assignment_refused", "begun 3 times"));
  CHECK_FALSE(rig.state.serving.pending);
  CHECK(rig.state.serving.active->manifest.version == 1);
  CHECK(rig.state.serving.service == Service::loaded);
  CHECK(rig.blobs == referenced_contents(rig.state));
  rig.answers_connect = true;
  rig.restart();
  rig.finish(1);
  REQUIRE(rig.online());
  REQUIRE_FALSE(rig.sent_of<message::Activation>().empty());
  CHECK(rig.sent_of<message::Activation>().back().version == 2);
  CHECK(rig.sent_of<message::Activation>().back().outcome == Reason::not_loadable);
  rig.assign(rig.second);
  CHECK(rig.begun(Kind::trial, 2) == 0);
  rig.settle_on(rig.third);
}

TEST_CASE(
    "a model that ends the process while it is loaded gives way to the one before it at the fourth start",
    "[node][serving][attempts]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.settle_on(rig.second);
  rig.clear();
  for (int i = 0; i < 3; ++i) rig.restart();
  CHECK(rig.begun(Kind::restoration, 2) == 3);
  CHECK(rig.begun(Kind::restoration, 1) == 0);
  rig.restart();
  CHECK(rig.begun(Kind::restoration, 2) == 3);
  CHECK(rig.begun(Kind::restoration, 1) == 1);
  CHECK(rig.noticed("fell_back", "begun 3 times"));
  rig.finish(1);
  CHECK(served_version(rig.state) == 1);
  REQUIRE_FALSE(rig.sent_of<message::Activation>().empty());
  CHECK(rig.sent_of<message::Activation>().back().outcome == Reason::not_loadable);
}

TEST_CASE("without one before it the node runs, serves nothing, and takes the next version",
          "[node][serving][attempts]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  for (int i = 0; i < 3; ++i) rig.restart();
  rig.clear();
  rig.restart();
  CHECK(rig.done_of<effect::Activate>().empty());
  CHECK(rig.noticed("no_model_serves", "begun 3 times"));
  CHECK(served_version(rig.state) == 0);
  REQUIRE(rig.online());
  SECTION("the next version") {
    rig.settle_on(rig.second);
    CHECK(rig.state.serving.attempts == 0);
  }
  SECTION("a later start finds more memory") {
    rig.restart();
    CHECK(rig.begun(Kind::restoration, 1) == 1);
    rig.finish(1);
    CHECK(served_version(rig.state) == 1);
  }
}

TEST_CASE("neither a clean stop nor a load that came to an end counts as an attempt",
          "[node][serving][attempts]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  SECTION("stopped while it loads") {
    for (int i = 0; i < 5; ++i) {
      rig.step(event::ShuttingDown{});
      rig.restart();
    }
    CHECK(rig.begun(Kind::restoration, 1) == 5);
  }
  SECTION("stopped while it tries") {
    rig.assign(rig.second);
    for (int i = 0; i < 5; ++i) {
      rig.step(event::ShuttingDown{});
      rig.restart();
      rig.finish(1);
    }
    CHECK(rig.begun(Kind::trial, 2) == 6);
  }
  SECTION("killed twice, and then it loads, again and again") {
    for (int i = 0; i < 3; ++i) {
      rig.restart();
      rig.restart();
      rig.finish(1);
      CHECK(served_version(rig.state) == 1);
    }
  }
  CHECK_FALSE(rig.noticed("no_model_serves"));
  CHECK_FALSE(rig.noticed("assignment_refused"));
}

TEST_CASE("a version that is taken back while it is tried is not served", "[node][serving]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.settle_on(rig.second);
  rig.assign(rig.third);
  REQUIRE(rig.begun(Kind::trial, 3) == 1);
  REQUIRE(wants_activation(rig.state, 3));
  rig.clear();
  rig.assign(fleet.manifest(rig.model, 4, 1));
  CHECK_FALSE(wants_activation(rig.state, 3));
  rig.finish(3);
  CHECK(rig.noticed("trial_withdrawn"));
  CHECK(rig.state.serving.active->manifest.version == 2);
  CHECK(rig.sent_of<message::Activation>().empty());
  // What served before the one in service has been judged here already, and is not held against it.
  CHECK(rig.begun(Kind::rollback, 4) == 1);
  rig.finish(4);
  CHECK(served_version(rig.state) == 1);
  CHECK(rig.sent_of<message::Activation>() == std::vector{message::Activation{1, 4, Reason::activated, ""}});
  CHECK(rig.blobs == referenced_contents(rig.state));
}

TEST_CASE("a version that a newer one follows while it is tried is served until then", "[node][serving]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.assign(rig.second);
  rig.assign(rig.third);
  CHECK(wants_activation(rig.state, 2));  // Or a slow node would serve nothing new in a fast fleet.
  rig.finish(2);
  CHECK(served_version(rig.state) == 2);
  CHECK(rig.begun(Kind::trial, 3) == 1);
}

TEST_CASE("an older version that this node has not served is judged like any other", "[node][serving]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.second);
  rig.settle_on(rig.third);
  VersionManifest older = fleet.manifest(rig.model, 4, 1);
  SECTION("another version") {}
  SECTION("the number of the one before, with other weights") { older.version = 2; }
  rig.assign(older);
  CHECK(rig.begun(Kind::trial, 4) == 1);
  CHECK(rig.begun(Kind::rollback, 4) == 0);
}

TEST_CASE("a model that fails with none before it is taken out of service", "[node][serving]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.step(event::ActiveModelFailed{1, "answers are not finite"});
  CHECK(rig.in_service == 0);
  CHECK(rig.done_of<effect::Unload>().size() == 1);
}

TEST_CASE("a model that inference waits for is loaded first: an evaluation is stopped, and begins anew after",
          "[node][serving][work]") {
  Fleet fleet;
  Trying rig(fleet);
  std::uint64_t awaited = 1;
  SECTION("after the one in service failed") {
    rig.settle_on(rig.first);
    rig.settle_on(rig.second);
    rig.judge_candidate_of(rig.first);
    rig.step(event::ActiveModelFailed{2, "answers are not finite"});
    CHECK(rig.begun(Kind::restoration, 1) == 1);
  }
  SECTION("in a rollback") {
    rig.settle_on(rig.first);
    rig.settle_on(rig.second);
    rig.judge_candidate_of(rig.first);
    awaited = 4;
    rig.assign(fleet.manifest(rig.model, awaited, 1));
    CHECK(rig.begun(Kind::rollback, awaited) == 1);
  }
  SECTION("where nothing has served yet") {
    rig.activates = false;
    rig.judge_candidate_of(rig.first);
    rig.assign(rig.first);
    CHECK(rig.begun(Kind::trial, 1) == 1);
  }
  CHECK(rig.stopped_and_begun() == Trying::Counts{1, 0});
  rig.step(event::EvaluationDone{.task = task_id(2), .both_right = 1});  // It was too late to stop.
  CHECK(rig.sent_of<message::Evaluation>().empty());
  CHECK(rig.state.tasks.at(task_id(2)).attempts == 0);
  rig.evaluates = true;
  rig.finish(awaited);
  CHECK(served_version(rig.state) == 1);
  CHECK(rig.stopped_and_begun() == Trying::Counts{1, 1});
  rig.check_reported();
}

TEST_CASE("an evaluation uses the time in which damaged content of the model in service is fetched",
          "[node][serving][work][damage]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.settle_on(rig.second);
  rig.judge_candidate_of(rig.second);
  rig.answers_fetch = false;
  rig.step(event::ActiveModelFailed{2, "answers are not finite"});
  rig.step(event::ActivationFailed{1, Reason::corrupt_content, "damaged", {rig.first.snapshot}});
  REQUIRE(rig.state.serving.service == Service::waiting);
  CHECK(rig.stopped_and_begun() == Trying::Counts{1, 1});
  rig.blobs.insert(rig.first.snapshot);
  rig.step(event::ContentReceived{rig.first.snapshot, {}});
  REQUIRE(rig.begun(Kind::restoration, 1) == 2);
  CHECK(rig.stopped_and_begun() == Trying::Counts{2, 1});
  rig.evaluates = true;
  rig.finish(1);
  CHECK(rig.stopped_and_begun() == Trying::Counts{2, 2});
  rig.check_reported();
}

TEST_CASE("after a start an evaluation waits until the model is back, and does not answer for its faults",
          "[node][serving][work][attempts]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.settle_on(rig.second);
  rig.judge_candidate_of(rig.first);
  for (int i = 0; i < 4; ++i) rig.restart();  // Loading version 2 ends the process three times.
  CHECK(rig.done_of<effect::Evaluate>().empty());
  REQUIRE(rig.begun(Kind::restoration, 1) == 1);
  rig.evaluates = true;
  rig.finish(1);
  CHECK(rig.done_of<effect::Evaluate>().size() == 1);
  rig.check_reported();
}

TEST_CASE("models that fail one after the other keep no evaluation from its end", "[node][serving][work]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.settle_on(rig.second);
  rig.judge_candidate_of(rig.first);
  const std::vector<ContentId> damaged{rig.first.snapshot};
  rig.step(event::ActiveModelFailed{2, "answers are not finite"});
  for (std::uint32_t i = 0; i < rig.config.attempts_max; ++i) {
    CHECK(rig.state.serving.service == Service::loading);
    rig.step(event::ActivationFailed{1, Reason::corrupt_content, "damaged", damaged});
  }
  CHECK(rig.state.serving.service == Service::failed);
  CHECK(rig.state.tasks.at(task_id(2)).attempts == 1);
  rig.step(event::EvaluationDone{.task = task_id(2), .both_right = 1});
  rig.check_reported();
}

TEST_CASE("a task that was put off ends at its deadline all the same", "[node][serving][work][time]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.settle_on(rig.second);
  rig.judge_candidate_of(rig.first);
  const bool put_off = GENERATE(false, true);
  if (put_off) rig.step(event::ActiveModelFailed{2, "answers are not finite"});
  rig.advance(10min);
  CHECK(rig.outcome_of(task_id(2)) == "expired");
  CHECK(rig.stopped_and_begun() == Trying::Counts{1, 0});
  if (put_off) rig.finish(1);
  CHECK(rig.done_of<effect::Evaluate>().empty());
}

TEST_CASE("neither a training nor, while a model serves, an evaluation gives way to a trial",
          "[node][serving][work]") {
  Fleet fleet;
  Trying rig(fleet);
  rig.settle_on(rig.first);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.first));
  rig.judge_candidate_of(rig.first);
  rig.assign(rig.second);
  REQUIRE(rig.begun(Kind::trial, 2) == 1);
  CHECK(rig.done_of<effect::StopTask>().empty());
  rig.finish(2);
  rig.step(event::ActiveModelFailed{2, "answers are not finite"});
  REQUIRE(rig.done_of<effect::StopTask>().size() == 1);
  CHECK(rig.done_of<effect::StopTask>()[0].task == task_id(2));
}
