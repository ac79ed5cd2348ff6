#include "node/core/work.h"

#include <nlohmann/json.hpp>

#include "protocol/documents.h"
#include "tests/catch.h"
#include "tests/node_core/worker.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

namespace {

using message::ReceiptOutcome;

UpdateHeader header_of(const message::Offer& offer) {
  return decode_update_header(offer.header.payload).value();
}

}  // namespace

TEST_CASE("a training task ends as one signed update that is offered, accepted and aggregated",
          "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.hear(fleet.training(1, rig.base));
  const auto offers = rig.sent_of<message::Offer>();
  REQUIRE(offers.size() == 1);
  const UpdateHeader header = header_of(offers[0]);
  CHECK(header.fleet == fleet.id);
  CHECK(header.task == task_id(1));
  CHECK(header.node == fleet.node.public_key());
  CHECK(header.base_version == 1);
  CHECK(header.base_hash == rig.base.weights_hash);
  CHECK(header.codec == 1);
  CHECK(header.parameter_count == 15);
  CHECK(header.sample_count == 50);
  CHECK(header.content_bytes == 99);
  CHECK(header.time == today);
  CHECK(verify_envelope(fleet.node.public_key(), Context::update, offers[0].header));
  // Training needs no variant, and what is served is another matter.
  CHECK_FALSE(rig.blobs.contains(content_of(101)));
  CHECK_FALSE(rig.state.serving.active);
  CHECK(status(rig.state, rig.now).at("outbox").at(0).at("state") == "offered");

  rig.receipt(1, ReceiptOutcome::accepted);
  CHECK_FALSE(rig.blobs.contains(header.content));
  rig.reconnect();
  CHECK(rig.sent_of<message::Ready>().back().awaiting_verdict == std::vector{task_id(1)});
  CHECK(rig.sent_of<message::Ready>().back().open_tasks.empty());
  CHECK(rig.sent_of<message::Offer>().size() == 1);
  rig.hear(message::Verdicts{{{task_id(1), message::VerdictOutcome::aggregated, Reason::none, 2}}});
  CHECK(rig.state.outbox.empty());
  CHECK(rig.outcome_of(task_id(1)) == "aggregated");
  CHECK(rig.blobs.empty());
}

TEST_CASE("an update is offered again in each session until it is answered", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.hear(fleet.training(1, rig.base));
  rig.reconnect();
  CHECK(rig.sent_of<message::Ready>().back().open_tasks == std::vector{task_id(1)});
  rig.crash();
  rig.boot();
  rig.run();
  const auto offers = rig.sent_of<message::Offer>();
  REQUIRE(offers.size() == 3);
  CHECK(offers[0] == offers[2]);
  CHECK(rig.done_of<effect::Train>().size() == 1);
}

TEST_CASE("updates are offered one at a time, in the order of their tasks", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.hear(fleet.training(9, rig.base));
  rig.hear(fleet.training(4, rig.base));
  CHECK(rig.sent_of<message::Offer>().size() == 1);
  rig.receipt(9, ReceiptOutcome::accepted);
  const auto offers = rig.sent_of<message::Offer>();
  REQUIRE(offers.size() == 2);
  CHECK(header_of(offers[0]).task == task_id(9));
  CHECK(header_of(offers[1]).task == task_id(4));
}

TEST_CASE("each answer to an update has its end", "[node][work]") {
  struct Case {
    ReceiptOutcome outcome;
    Reason reason;
    const char* end;
  };
  for (const Case& one : {Case{ReceiptOutcome::refused, Reason::round_closed, "refused"},
                          Case{ReceiptOutcome::refused, Reason::unknown_task, "refused"},
                          Case{ReceiptOutcome::duplicate, Reason::duplicate_content, "duplicate"}}) {
    Fleet fleet;
    Worker rig(fleet);
    rig.hear(fleet.training(1, rig.base));
    rig.receipt(1, one.outcome, one.reason);
    CHECK(rig.outcome_of(task_id(1)) == one.end);
    CHECK(rig.noticed("task_ended", std::string(name(one.reason))));
    CHECK(rig.state.outbox.empty());
    CHECK(rig.blobs.empty());
    // Whatever comes after the end is not heard.
    rig.receipt(1, ReceiptOutcome::accepted);
    rig.hear(fleet.training(1, rig.base));
    CHECK(rig.done_of<effect::Train>().size() == 1);
    CHECK(rig.state.outbox.empty());
  }
}

TEST_CASE("an accepted update waits for its verdict, whatever a second receipt says", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.hear(fleet.training(1, rig.base));
  rig.receipt(1, ReceiptOutcome::accepted);
  rig.receipt(1, ReceiptOutcome::refused, Reason::round_closed);
  CHECK(rig.outcome_of(task_id(1)).empty());
  rig.reconnect();
  CHECK(rig.sent_of<message::Ready>().back().awaiting_verdict == std::vector{task_id(1)});
}

TEST_CASE("a verdict ends an update whose receipt was lost", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.hear(fleet.training(1, rig.base));
  rig.hear(message::Verdicts{{{task_id(1), message::VerdictOutcome::discarded, Reason::over_goal, 0},
                              {task_id(8), message::VerdictOutcome::aggregated, Reason::none, 3}}});
  CHECK(rig.outcome_of(task_id(1)) == "discarded");
  CHECK(rig.outcome_of(task_id(8)).empty());
  CHECK(rig.blobs.empty());
}

TEST_CASE("the same task again never trains twice", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.base));
  rig.hear(fleet.training(1, rig.base));  // While it trains.
  rig.reconnect();
  rig.hear(fleet.training(1, rig.base));
  REQUIRE(rig.done_of<effect::Train>().size() == 1);
  rig.blobs.insert(content_of(777));
  const event::TrainingDone done{task_id(1), content_of(777), 10, 15, 5, 1, 1};
  rig.step(done);
  rig.step(done);                         // Said twice.
  rig.hear(fleet.training(1, rig.base));  // In the outbox.
  rig.receipt(1, ReceiptOutcome::accepted);
  rig.receipt(1, ReceiptOutcome::accepted);
  rig.hear(fleet.training(1, rig.base));  // Awaiting its verdict.
  CHECK(rig.done_of<effect::Train>().size() == 1);
  CHECK(rig.done_of<effect::SealUpdate>().size() == 1);
  CHECK(rig.sent_of<message::Offer>().size() == 1);
  CHECK(rig.state.outbox.size() == 1);
}

TEST_CASE("one training runs at a time, an evaluation beside it", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.base));
  rig.hear(fleet.training(3, rig.base));
  rig.hear(fleet.evaluation(2, rig.base));
  CHECK(rig.done_of<effect::Train>().size() == 1);
  CHECK(rig.done_of<effect::Evaluate>().size() == 1);
  rig.step(event::TaskFailed{task_id(1), Reason::training_diverged, "loss is 1e30"});
  CHECK(rig.outcome_of(task_id(1)) == "failed");
  CHECK(rig.noticed("task_ended", "training_diverged"));
  REQUIRE(rig.done_of<effect::Train>().size() == 2);
  CHECK(rig.done_of<effect::Train>()[1].task == task_id(3));
}

TEST_CASE("a node holds no more tasks than it is allowed to", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  for (int task = 1; task <= 20; ++task) rig.hear(fleet.training(task, rig.base));
  CHECK(rig.state.tasks.size() == rig.config.tasks_max);
  CHECK(rig.noticed("task_refused", "tasks_max"));
  const auto declined = rig.sent_of<message::Declined>();
  REQUIRE(declined.size() == 20 - rig.config.tasks_max);
  CHECK(declined[0].reason == Reason::overloaded);
}

TEST_CASE("training that gave nothing is never offered", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.base));
  rig.blobs.insert(content_of(777));
  event::TrainingDone done{task_id(1), content_of(777), 10, 15, 5, 1, 1};
  Reason reason = Reason::training_diverged;
  SECTION("a loss that is no number") { done.loss_last = std::numeric_limits<double>::quiet_NaN(); }
  SECTION("no sample") {
    done.sample_count = 0;
    reason = Reason::too_few_samples;
  }
  rig.step(done);
  CHECK(rig.sent_of<message::Offer>().empty());
  CHECK(rig.noticed("task_ended", std::string(name(reason))));
  CHECK_FALSE(rig.blobs.contains(content_of(777)));
  REQUIRE(rig.sent_of<message::Declined>().size() == 1);
  CHECK(rig.sent_of<message::Declined>()[0].task == task_id(1));
  CHECK(rig.sent_of<message::Declined>()[0].reason == reason);
}

TEST_CASE("a candidate is scored against its parent, never served, and reported until the receipt",
          "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.hear(fleet.evaluation(2, rig.base));
  const CandidateManifest candidate = fleet.candidate(rig.base, 2);
  REQUIRE(rig.sent_of<message::Evaluation>().size() == 1);
  const auto report = decode_evaluation_report(rig.sent_of<message::Evaluation>()[0].report.payload).value();
  CHECK(report.parent_hash == rig.base.weights_hash);
  CHECK(report.candidate_hash == candidate.weights_hash);
  CHECK(report.both_right == 40);
  CHECK(report.parent_only == 3);
  CHECK(report.candidate_only == 5);
  CHECK(report.both_wrong == 2);
  CHECK(report.parent_loss_sum == 30);
  CHECK(report.candidate_loss_sum == 28);
  CHECK_FALSE(rig.blobs.contains(candidate.snapshot));
  rig.reconnect();
  CHECK(rig.sent_of<message::Evaluation>().size() == 2);
  rig.receipt(2, ReceiptOutcome::accepted);
  CHECK(rig.outcome_of(task_id(2)) == "reported");
  rig.reconnect();
  CHECK(rig.sent_of<message::Evaluation>().size() == 2);
  CHECK(rig.done_of<effect::Activate>().empty());
  CHECK(rig.sent_of<message::Offer>().empty());
}

TEST_CASE("a task that is cancelled leaves nothing behind, in any phase", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  const message::TaskCancelled cancelled{task_id(1), Reason::round_failed};
  SECTION("while its content is fetched") {
    rig.answers_fetch = false;
    rig.hear(fleet.training(1, rig.base));
    rig.hear(cancelled);
    CHECK(rig.done_of<effect::StopTask>().empty());
    CHECK(rig.done_of<effect::DropContent>().size() == 1);
    rig.blobs.insert(rig.model.content);
    rig.step(event::ContentReceived{rig.model.content, rig.model.bytes});  // It was on its way.
    CHECK(rig.state.transfers.present.empty());
  }
  SECTION("while it trains") {
    rig.trains = false;
    rig.hear(fleet.training(1, rig.base));
    rig.hear(cancelled);
    CHECK(rig.done_of<effect::StopTask>().size() == 1);
    rig.blobs.insert(content_of(777));
    rig.step(event::TrainingDone{task_id(1), content_of(777), 10, 15, 5, 1, 1});  // It was too late to stop.
  }
  SECTION("while it is signed") {
    rig.seals = false;
    rig.hear(fleet.training(1, rig.base));
    rig.hear(cancelled);
    rig.step(event::UpdateSealed{task_id(1), Envelope{}});
  }
  CHECK(rig.outcome_of(task_id(1)) == "cancelled");
  CHECK(rig.state.tasks.empty());
  CHECK(rig.state.outbox.empty());
  CHECK(rig.blobs.empty());
  CHECK(rig.sent_of<message::Offer>().empty());
  CHECK_FALSE(rig.durable.contains({"tasks", copy_of(task_id(1).span())}));
}

TEST_CASE("an offer that is cancelled makes way for the next; an accepted update stays", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  for (int task = 1; task <= 3; ++task) rig.hear(fleet.training(task, rig.base));
  rig.receipt(1, ReceiptOutcome::accepted);
  rig.hear(message::TaskCancelled{task_id(1), Reason::round_closed});
  CHECK(rig.outcome_of(task_id(1)).empty());
  CHECK(rig.state.outbox.at(task_id(1)).accepted);
  REQUIRE(rig.sent_of<message::Offer>().size() == 2);
  const ContentId second = header_of(rig.sent_of<message::Offer>()[1]).content;
  rig.hear(message::TaskCancelled{task_id(2), Reason::round_closed});
  CHECK(rig.outcome_of(task_id(2)) == "cancelled");
  CHECK_FALSE(rig.blobs.contains(second));
  REQUIRE(rig.sent_of<message::Offer>().size() == 3);
  CHECK(header_of(rig.sent_of<message::Offer>()[2]).task == task_id(3));
  rig.hear(fleet.training(2, rig.base));  // Given again by mistake: it has ended.
  CHECK(rig.done_of<effect::Train>().size() == 3);
}

TEST_CASE("a deadline ends a task in any phase, by the monotonic clock alone", "[node][work][time]") {
  Fleet fleet;
  Worker rig(fleet);
  SECTION("fetching") { rig.answers_fetch = false; }
  SECTION("training") { rig.trains = false; }
  SECTION("signing") { rig.seals = false; }
  rig.hear(fleet.training(1, rig.base));
  rig.now.utc = today + 24h;  // The calendar jumps: nothing happens.
  rig.advance(10min - 1ms);
  CHECK(rig.outcome_of(task_id(1)).empty());
  rig.advance(1ms);
  CHECK(rig.outcome_of(task_id(1)) == "expired");
  CHECK(rig.state.tasks.empty());
  CHECK(rig.blobs.empty());
}

TEST_CASE("after a restart a deadline is never past the task's whole length, wherever the clock stands",
          "[node][work][time]") {
  struct Case {
    UtcTime utc;
    std::chrono::milliseconds left;
  };
  for (const Case& one : {Case{today + 4min, 6min}, Case{today + 24h, 0ms}, Case{today - 24h, 10min}}) {
    Fleet fleet;
    Worker rig(fleet);
    rig.trains = false;
    rig.hear(fleet.training(1, rig.base));
    rig.crash();
    // The time that was signed before stands below what a clock can fall to: forget it for this test.
    rig.durable.erase({"meta", copy_of(bytes_of("agent"))});
    rig.now = {5h, one.utc};
    rig.answers_connect = false;
    rig.boot();
    if (one.left == 0ms) {
      CHECK(rig.outcome_of(task_id(1)) == "expired");
    } else {
      CHECK(rig.state.tasks.at(task_id(1)).deadline == 5h + one.left);
    }
  }
}

TEST_CASE("a task of a century is cut to what the node allows", "[node][work][time]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  message::Task task = fleet.training(1, rig.base);
  task.remaining_ms = std::numeric_limits<std::uint64_t>::max();
  rig.hear(task);
  CHECK(rig.state.tasks.at(task.id).deadline == rig.now.monotonic + 24h * 7);
}

TEST_CASE("training goes on offline, and what comes of it waits", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.base));
  rig.answers_connect = false;
  rig.crash();
  rig.boot();
  rig.trains = true;
  rig.run();
  CHECK(rig.done_of<effect::Train>().size() == 2);
  CHECK(rig.state.outbox.size() == 1);
  CHECK(rig.sent_of<message::Offer>().empty());
  rig.answers_connect = true;
  rig.lose_connection();
  rig.advance(2s);
  REQUIRE(rig.online());
  CHECK(rig.sent_of<message::Offer>().size() == 1);
}

TEST_CASE("shutting down stops training, and the next start takes it up again", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.trains = false;
  rig.hear(fleet.training(1, rig.base));
  rig.step(event::ShuttingDown{});
  CHECK(rig.done_of<effect::StopTask>().size() == 1);
  rig.crash();
  rig.trains = true;
  rig.boot();
  rig.run();
  CHECK(rig.sent_of<message::Offer>().size() == 1);
}

TEST_CASE("no more ended tasks are remembered than configured", "[node][work]") {
  Fleet fleet;
  Worker rig(fleet);
  rig.crash();
  rig.config.ended_max = 3;
  rig.boot();
  rig.run();
  for (int task = 1; task <= 7; ++task) {
    rig.hear(fleet.training(task, rig.base));
    rig.receipt(task, ReceiptOutcome::refused, Reason::round_closed);
  }
  CHECK(rig.state.ended.size() == 3);
  CHECK(rig.outcome_of(task_id(7)) == "refused");
  CHECK(rig.outcome_of(task_id(4)).empty());
  std::size_t records = 0;
  for (const auto& [key, value] : rig.durable) records += key.first == "verdicts" ? 1 : 0;
  CHECK(records == 3);
}
