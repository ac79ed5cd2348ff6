#include "node/core/serving.h"
#include "node/core/work.h"
#include "tests/catch.h"
#include "tests/node_core/rig.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

namespace {

const ContentId first_weights = content_of(1);  // w_0, which every version of the release needs.

/// A node whose disk damages what it holds: its driver says so of what it could not use.
struct Damaged : Rig {
  explicit Damaged(Fleet& the_fleet) : Rig(the_fleet) {
    for (const auto& manifest : {first, second, third}) serve(model, manifest);
    boot();
    run();
  }
  void assign(const VersionManifest& manifest) { hear(message::Assignment{fleet.sealed(manifest)}); }
  void fail_activation(std::uint64_t manifest, std::vector<ContentId> damaged) {
    step(event::ActivationFailed{manifest, Reason::corrupt_content, "damaged", std::move(damaged)});
  }
  void fail_task(std::vector<ContentId> damaged) {
    step(event::TaskFailed{task_id(1), Reason::corrupt_content, "damaged", std::move(damaged)});
  }
  void restart() {
    crash();
    boot();
    run();
  }
  [[nodiscard]] std::vector<ContentId> fetched() const {
    std::vector<ContentId> contents;
    for (const auto& fetch : done_of<effect::Fetch>()) contents.push_back(fetch.content);
    return contents;
  }

  Model model = fleet.model();
  VersionManifest first = fleet.manifest(model, 1, 1);
  VersionManifest second = fleet.manifest(model, 2, 2);
  VersionManifest third = fleet.manifest(model, 3, 3);
};

}  // namespace

TEST_CASE("a task whose content the disk has damaged begins anew once that was fetched again",
          "[node][damage]") {
  Fleet fleet;
  Damaged rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.first));
  REQUIRE(rig.done_of<effect::Train>().size() == 1);
  rig.clear();
  rig.trains = true;
  rig.fail_task({first_weights});
  CHECK(rig.noticed("content_damaged", first_weights.hex()));
  REQUIRE_FALSE(rig.done_of<effect::DropContent>().empty());
  CHECK(rig.done_of<effect::DropContent>()[0].content == first_weights);
  CHECK(rig.done_of<effect::DropContent>()[0].damaged);
  CHECK(rig.fetched() == std::vector{first_weights});
  CHECK(rig.sent_of<message::Offer>().size() == 1);
  CHECK(rig.sent_of<message::Declined>().empty());
}

TEST_CASE("a task whose manifest lies is refused, and nothing is fetched again", "[node][damage]") {
  Fleet fleet;
  Damaged rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.first));
  rig.clear();
  rig.fail_task({});
  CHECK(rig.fetched().empty());
  CHECK(rig.outcome_of(task_id(1)) == "failed");
  CHECK(rig.sent_of<message::Declined>().size() == 1);
}

TEST_CASE("a disk that damages content again and again costs three attempts", "[node][damage]") {
  Fleet fleet;
  Damaged rig(fleet);
  rig.trains = rig.activates = false;
  rig.hear(fleet.training(1, rig.first));
  for (int i = 0; i < 3; ++i) rig.fail_task({first_weights});
  CHECK(rig.done_of<effect::Train>().size() == 3);
  CHECK(rig.outcome_of(task_id(1)) == "failed");
  rig.clear();
  rig.assign(rig.first);
  for (int i = 0; i < 3; ++i) rig.fail_activation(1, {first_weights});
  CHECK(rig.done_of<effect::Activate>().size() == 3);
  CHECK(rig.sent_of<message::Activation>().back().outcome == Reason::corrupt_content);
  CHECK_FALSE(rig.state.serving.pending);
}

TEST_CASE("a version whose content was damaged before its trial is tried with whole content",
          "[node][damage]") {
  Fleet fleet;
  Damaged rig(fleet);
  rig.activates = false;
  rig.assign(rig.first);
  rig.clear();
  rig.activates = true;
  rig.fail_activation(1, {first_weights, rig.first.snapshot});
  CHECK(rig.fetched() == std::vector{first_weights, rig.first.snapshot});
  CHECK(rig.in_service == 1);
  CHECK(rig.sent_of<message::Activation>() == std::vector{message::Activation{1, 1, Reason::activated, ""}});
}

TEST_CASE("a model in service whose content was damaged comes back after a restart", "[node][damage]") {
  Fleet fleet;
  Damaged rig(fleet);
  rig.assign(rig.first);
  const bool has_previous = GENERATE(false, true);
  const VersionManifest newest = has_previous ? rig.second : rig.first;
  if (has_previous) rig.assign(rig.second);
  rig.activates = false;
  rig.clear();
  rig.restart();
  REQUIRE(rig.done_of<effect::Activate>().size() == 1);

  SECTION("fetched anew, where nothing whole is left") {
    rig.answers_fetch = false;
    rig.clear();
    rig.fail_activation(newest.manifest_version, {first_weights});
    CHECK(served_version(rig.state) == 0);
    CHECK(rig.sent_of<message::Activation>().empty());  // Nothing is wrong with the version.
    CHECK(rig.fetched() == std::vector{first_weights});
    rig.activates = true;
    rig.blobs.insert(first_weights);
    rig.step(event::ContentReceived{first_weights, {}});
    CHECK(rig.in_service == newest.version);
    CHECK(rig.state.serving.service == Service::loaded);
    CHECK(served_version(rig.state) == newest.version);
  }
  SECTION("offline it waits for the coordinator") {
    rig.answers_connect = false;
    rig.lose_connection();
    rig.fail_activation(newest.manifest_version, {first_weights});
    CHECK(rig.in_service == 0);
    rig.activates = rig.answers_connect = true;
    rig.advance(2s);
    CHECK(rig.in_service == newest.version);
  }
  SECTION("until it gives up") {
    for (int i = 0; i < 3; ++i) rig.fail_activation(newest.manifest_version, {newest.snapshot});
    CHECK(rig.sent_of<message::Activation>().back().outcome == Reason::not_loadable);
    CHECK(rig.state.serving.service == (has_previous ? Service::loading : Service::failed));
  }
}

TEST_CASE("the version before serves at once where it is whole", "[node][damage]") {
  Fleet fleet;
  Damaged rig(fleet);
  rig.assign(rig.first);
  rig.assign(rig.second);
  rig.activates = false;
  rig.restart();
  rig.activates = true;
  rig.fail_activation(2, {rig.second.snapshot});
  CHECK(rig.in_service == 1);
  rig.assign(rig.third);
  CHECK(rig.in_service == 3);
}

TEST_CASE("a task that ends the process is begun three times, and not at every start", "[node][damage]") {
  Fleet fleet;
  Damaged rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.first));
  for (int i = 0; i < 2; ++i) rig.restart();
  CHECK(rig.done_of<effect::Train>().size() == 3);
  rig.clear();
  rig.restart();
  CHECK(rig.done_of<effect::Train>().empty());
  CHECK(rig.outcome_of(task_id(1)) == "failed");
  rig.hear(fleet.training(1, rig.first));
  REQUIRE_FALSE(rig.sent_of<message::Declined>().empty());
  CHECK(rig.sent_of<message::Declined>().back().reason == Reason::training_failed);
}

TEST_CASE("a daemon that ends in good order does not spend its tasks' attempts", "[node][damage]") {
  Fleet fleet;
  Damaged rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.first));
  for (int i = 0; i < 5; ++i) {
    rig.step(event::ShuttingDown{});
    rig.restart();
  }
  CHECK(rig.done_of<effect::Train>().size() == 6);
  CHECK(rig.outcome_of(task_id(1)).empty());
}
