#include <limits>

#include "coordinator/core/coordinator.h"
#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

using Cause = event::UpdateTransferFailed::Cause;

const UpdateRecord& accepted_of(const Bench& bench, const TaskId& task) {
  return std::get<Training>(bench.state.round.phase).accepted.at(task);
}

}  // namespace

TEST_CASE("a content that is on its way is not taken under another length", "[coordinator][offers]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  REQUIRE(all_of<effect::FetchUpdate>(bench.offer(1, header)).size() == 1);
  UpdateHeader other = header;
  other.content_bytes -= 1;
  const auto effects = bench.offer(1, other);
  REQUIRE(all_of<effect::FetchUpdate>(effects).empty());
  REQUIRE(sent<message::Receipt>(effects, 1).at(0).reason == Reason::duplicate_content);
  // The same again is a node that came back.
  REQUIRE(all_of<effect::FetchUpdate>(bench.offer(1, header)).size() == 1);
  bench.give(event::UpdateStored{header.task, header.content, {1.0, header.content_bytes}});
  REQUIRE(accepted_of(bench, header.task).content_bytes == header.content_bytes);
}

TEST_CASE("what is recorded of an update is the length that was inspected", "[coordinator][offers]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  bench.offer(1, header);
  bench.offer(1, bench.header_of(1, "another"));
  UpdateHeader shorter = header;
  shorter.content_bytes -= 1;
  bench.offer(1, shorter);
  // The answer to the first one, which was under way all the time.
  bench.give(event::UpdateStored{header.task, header.content, {1.0, header.content_bytes}});
  REQUIRE(accepted_of(bench, header.task).content_bytes == header.content_bytes);
  REQUIRE(bench.state.round.summary.upload_bytes == header.content_bytes);
}

TEST_CASE("after three aggregations that failed since the last version the schedule stops and says so",
          "[coordinator][schedule]") {
  Bench bench;
  bench.fleet(2);
  bench.start(10);
  const auto fail_one = [&] {
    bench.upload(1);
    const auto question = all_of<effect::Aggregate>(bench.upload(2)).at(0);
    bench.give(event::AggregationFailed{question.round, question.attempt, {Errc::corrupt, "it is damaged"}});
    REQUIRE(bench.state.rounds.back().state == "failed");
    bench.pass(1s);
  };
  fail_one();
  fail_one();
  bench.publish_one();  // What failed before does not count any more.
  fail_one();
  fail_one();
  REQUIRE(bench.state.schedule.stopped.empty());
  bench.restart();
  for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
  fail_one();
  REQUIRE(bench.state.schedule.stopped ==
          "3 rounds have failed in aggregation or publication since the last version, the last one because "
          "it is damaged");
  REQUIRE(bench.state.schedule.last_started == 6);
  REQUIRE(bench.in<Idle>());
  // Whoever has mended it starts anew, with three more.
  bench.start(3);
  REQUIRE(bench.state.schedule.stopped.empty());
  fail_one();
  REQUIRE(bench.in<Training>());
}

TEST_CASE("while the disk is full a node that is ready is sent away, and nothing waits for room",
          "[coordinator][storage]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  REQUIRE(bench.in<Training>());
  bench.give(event::StorageState{true, false});
  for (SessionId session = 10; session < 20; ++session) {
    const auto key = node_id(1);
    Transition hello =
        step(bench.state, event::HelloReceived{session, key, message::Hello{1, 1, test_fleet(), "test"}},
             bench.now);
    message::Ready ready;
    ready.open_tasks = {bench.task_of(1)};
    ready.awaiting_verdict = {TaskId{}};
    Transition answer = step(bench.state, event::ReadyReceived{session, ready}, bench.now);
    Transition over = step(bench.state, event::SessionClosed{session}, bench.now);
    REQUIRE(may_overtake(bench.state, hello));
    REQUIRE(may_overtake(bench.state, answer));
    REQUIRE(over.writes.empty());
    REQUIRE(over.effects.empty());
    REQUIRE(sent<message::Backoff>(answer.effects, session).at(0) ==
            message::Backoff{Reason::storage_full, 30'000});
  }
  bench.give(event::StorageState{false, false});
  // Who comes when there is room gets the task that it missed.
  REQUIRE(sent<message::Task>(bench.connect(1, 100, 50, 30), 30).size() == 1);
}

TEST_CASE("a round does not wait for a content that its node does not have", "[coordinator][offers]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  bench.offer(1, header);
  const auto effects = bench.give(
      event::UpdateTransferFailed{header.task, header.content, "the peer has not", 1, Cause::missing});
  const auto cancelled = sent<message::TaskCancelled>(effects, 1);
  REQUIRE(cancelled.size() == 1);
  REQUIRE(cancelled[0].id == header.task);
  REQUIRE(sent<message::Backoff>(effects).empty());
  REQUIRE(sent<message::Receipt>(bench.offer(1, header), 1).at(0).reason == Reason::round_closed);
  bench.upload(2);
  bench.upload(3);
  REQUIRE(bench.in<Aggregating>());
}

TEST_CASE("a node whose upload we could not take is told to bring it again", "[coordinator][offers]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  bench.offer(1, header);
  const auto lost =
      bench.give(event::UpdateTransferFailed{header.task, header.content, "cut", 1, Cause::connection});
  REQUIRE(sent<message::Backoff>(lost).empty());  // Nobody is there to hear it.
  bench.offer(1, header);
  const auto effects =
      bench.give(event::UpdateTransferFailed{header.task, header.content, "no file", 1, Cause::here});
  REQUIRE(sent<message::Backoff>(effects, 1).at(0) == message::Backoff{Reason::overloaded, 30'000});
  REQUIRE(sent<message::TaskCancelled>(effects).empty());
  bench.give(event::SessionClosed{1});
  REQUIRE(sent<message::Task>(bench.connect(1, 100, 50, 9), 9).size() == 1);
  bench.upload(1);
  REQUIRE(bench.state.round.summary.accepted == 1);
}

TEST_CASE("a report whose loss is no number may be sent again", "[coordinator][gate]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  bench.up_to_gating();
  EvaluationReport report = report_for(bench.state, node_id(1), bench.task_of(1), 0, 0, 100);
  report.candidate_loss_sum =
      GENERATE(std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity());
  const auto outcome = [&](const EvaluationReport& sent_report) {
    const Envelope envelope = rivulet::seal(node_key(1), Context::evaluation, encode(sent_report));
    return sent<message::Receipt>(bench.give(event::EvaluationReceived{1, envelope}), 1).at(0).outcome;
  };
  REQUIRE(outcome(report) == message::ReceiptOutcome::accepted);
  REQUIRE(outcome(report) == message::ReceiptOutcome::accepted);
  bench.restart();  // The store keeps neither infinity nor NaN.
  for (unsigned n = 1; n <= 3; ++n) bench.connect(n);
  REQUIRE(outcome(report) == message::ReceiptOutcome::accepted);
  report.candidate_loss_sum = 1;
  REQUIRE(outcome(report) == message::ReceiptOutcome::duplicate);
}

}  // namespace rivulet::coordinator::testing
