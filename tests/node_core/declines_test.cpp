#include "tests/catch.h"
#include "tests/node_core/worker.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

TEST_CASE("a task that ends on the node is declined once, and again when it is given again",
          "[node][work][declines]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = rig.evaluates = false;
  const bool evaluates = GENERATE(false, true);
  const message::Task task = evaluates ? fleet.evaluation(2, rig.base) : fleet.training(1, rig.base);
  const message::Declined expected{task.id, Reason::training_failed, "no memory left"};
  rig.hear(task);
  SECTION("online, it says so at once") {
    rig.step(event::TaskFailed{task.id, Reason::training_failed, "no memory left"});
    CHECK(rig.sent_of<message::Declined>() == std::vector{expected});
    rig.advance(1min);
    rig.reconnect();
    CHECK(rig.sent_of<message::Declined>().size() == 1);
    CHECK(rig.sent_of<message::Ready>().back().open_tasks.empty());
  }
  SECTION("offline, it waits to be asked") {
    rig.answers_connect = false;
    rig.lose_connection();
    rig.step(event::TaskFailed{task.id, Reason::training_failed, "no memory left"});
    CHECK(rig.sent_of<message::Declined>().empty());
    rig.answers_connect = true;
    rig.advance(2s);
    REQUIRE(rig.online());
    rig.hear(task);
    CHECK(rig.sent_of<message::Declined>() == std::vector{expected});
  }
  SECTION("after a crash it is known from the store") {
    rig.step(event::TaskFailed{task.id, Reason::training_failed, "no memory left"});
    rig.crash();
    rig.boot();
    rig.run();
    rig.hear(task);
    CHECK(rig.sent_of<message::Declined>() == std::vector{expected, expected});
  }
  CHECK(rig.outcome_of(task.id) == "failed");
  CHECK(rig.done_of<effect::Train>().size() + rig.done_of<effect::Evaluate>().size() == 1);
}

TEST_CASE("a task whose time ran out while the node was down is declined when it is given again",
          "[node][work][declines]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.base));
  rig.crash();
  rig.now.utc = today + 11min;
  rig.now.monotonic += 11min;
  rig.coordinator_utc = rig.now.utc;
  rig.boot();
  rig.run();
  CHECK(rig.outcome_of(task_id(1)) == "expired");
  REQUIRE(rig.online());
  CHECK(rig.sent_of<message::Declined>().empty());  // It ended before there was anybody to tell.
  rig.hear(fleet.training(1, rig.base));
  CHECK(rig.sent_of<message::Declined>() ==
        std::vector{message::Declined{task_id(1), Reason::too_late, "its deadline passed"}});
}

TEST_CASE("what ended by the coordinator's word is declined only if it comes again",
          "[node][work][declines]") {
  Fleet fleet;
  Worker rig(fleet);
  std::string outcome;
  SECTION("cancelled") {
    rig.trains = false;
    rig.hear(fleet.training(1, rig.base));
    rig.hear(message::TaskCancelled{task_id(1), Reason::round_closed});
    outcome = "cancelled";
  }
  SECTION("refused") {
    rig.hear(fleet.training(1, rig.base));
    rig.receipt(1, message::ReceiptOutcome::refused, Reason::norm_too_large);
    outcome = "refused";
  }
  CHECK(rig.sent_of<message::Declined>().empty());
  rig.hear(fleet.training(1, rig.base));  // From a coordinator whose folder is an old copy.
  CHECK(rig.state.tasks.empty());
  CHECK(rig.sent_of<message::Declined>() ==
        std::vector{message::Declined{task_id(1), Reason::round_closed,
                                      "a task of this id ended here before (" + outcome + ")"}});
}

TEST_CASE("a task that is stopped, to go on after the next start, is not declined",
          "[node][work][declines]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.base));
  rig.step(event::ShuttingDown{});
  CHECK(rig.sent_of<message::Declined>().empty());
}

TEST_CASE("whatever an exception says, a decline is text that a coordinator takes",
          "[node][work][declines]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.base));
  rig.step(event::TaskFailed{task_id(1), Reason::training_failed,
                             "line 1\nline 2 \xff\x1b[31m " + std::string(5000, 'x')});
  const auto declined = rig.sent_of<message::Declined>();
  REQUIRE(declined.size() == 1);
  CHECK(declined[0].detail.starts_with("line 1 line 2   [31m xxx"));
  CHECK(declined[0].detail.size() == 500);
  CHECK(decode_message(encode(Message(declined[0]))));
}

TEST_CASE("an evaluation whose time runs out is stopped and declined", "[node][work][declines]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.evaluates = false;
  rig.hear(fleet.evaluation(2, rig.base));
  REQUIRE(rig.done_of<effect::Evaluate>().size() == 1);
  rig.advance(10min);
  REQUIRE(rig.done_of<effect::StopTask>().size() == 1);
  CHECK(rig.done_of<effect::StopTask>()[0].task == task_id(2));
  REQUIRE(rig.sent_of<message::Declined>().size() == 1);
  CHECK(rig.sent_of<message::Declined>()[0].reason == Reason::too_late);
}
