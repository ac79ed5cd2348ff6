#include "node/core/outbox.h"

#include "tests/catch.h"
#include "tests/node_core/worker.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

namespace {

using message::ReceiptOutcome;

void restart(Worker& rig) {
  rig.crash();
  rig.boot();
  rig.run();
}

/// Time passes while the process sleeps.
void sleep(Worker& rig, std::chrono::milliseconds time) {
  rig.now.monotonic += time;
  rig.now.utc += time;
}

}  // namespace

TEST_CASE("a node whose results nobody answers takes no more tasks, until one is answered",
          "[node][work][outbox]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.config.outbox_max = 3;
  restart(rig);
  for (int task = 1; task <= 5; ++task) rig.hear(fleet.training(task, rig.base));
  CHECK(rig.state.outbox.size() == 3);
  const auto declined = rig.sent_of<message::Declined>();
  REQUIRE(declined.size() == 2);
  CHECK(declined[0].reason == Reason::overloaded);
  CHECK(rig.noticed("task_refused", "outbox_max"));
  rig.receipt(1, ReceiptOutcome::accepted);  // Its verdict is still to come.
  rig.hear(fleet.training(6, rig.base));
  CHECK(rig.state.outbox.size() == 3);
  rig.receipt(2, ReceiptOutcome::refused, Reason::round_closed);
  rig.hear(fleet.training(7, rig.base));
  CHECK(rig.state.outbox.size() == 3);
  CHECK(rig.state.outbox.contains(task_id(7)));
}

TEST_CASE("an accepted update whose verdict never comes is let go of after two weeks",
          "[node][work][outbox]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.hear(fleet.training(1, rig.base));
  rig.receipt(1, ReceiptOutcome::accepted);
  rig.hear(fleet.training(2, rig.base));  // Offered, and not answered at all.
  const bool restarts = GENERATE(false, true);
  sleep(rig, 24h * 14);
  rig.coordinator_utc = rig.now.utc;
  if (restarts) restart(rig);
  rig.step(event::Tick{});
  CHECK(rig.state.outbox.contains(task_id(1)));
  sleep(rig, 1min);
  if (restarts) restart(rig);
  rig.step(event::Tick{});
  CHECK_FALSE(rig.state.outbox.contains(task_id(1)));
  CHECK(rig.outcome_of(task_id(1)) == "unanswered");
  CHECK_FALSE(rig.durable.contains({"outbox", copy_of(task_id(1).span())}));
  CHECK(rig.state.outbox.contains(task_id(2)));
}

TEST_CASE("a node with more results than a message may name is ready all the same", "[node][work][outbox]") {
  Fleet fleet;
  Worker rig(fleet);
  // As an earlier version left them, which had no bound.
  for (int i = 0; i < 300; ++i) {
    TaskId id = task_id(i % 256);
    id.bytes[1] = static_cast<std::byte>(i / 256);
    OutboxEntry& entry = rig.state.outbox[id];
    entry.accepted = true;
    entry.made = today;
  }
  rig.reconnect();
  const message::Ready ready = rig.sent_of<message::Ready>().back();
  CHECK(ready.awaiting_verdict.size() == 256);
  const auto read = decode_message(encode(Message(ready)));
  REQUIRE(read);
  CHECK(std::get<message::Ready>(*read) == ready);
}
