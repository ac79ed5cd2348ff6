#include <set>

#include "coordinator/core/phases.h"
#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

std::vector<Effect> decline(Bench& bench, unsigned n, const TaskId& task,
                            Reason reason = Reason::training_failed, std::string detail = "out of memory") {
  return bench.give(event::DeclinedReceived{bench.state.fleet.find(node_id(n))->session,
                                            message::Declined{task, reason, std::move(detail)}});
}

std::vector<Effect> decline(Bench& bench, unsigned n, Reason reason = Reason::training_failed) {
  return decline(bench, n, bench.task_of(n), reason);
}

const effect::Notice* notice_of(const std::vector<Effect>& effects, const std::string& event) {
  for (const Effect& effect : effects) {
    const auto* notice = std::get_if<effect::Notice>(&effect);
    if (notice != nullptr && notice->event == event) return notice;
  }
  return nullptr;
}

std::size_t audited(const Bench& bench, const std::string& event) {
  std::size_t count = 0;
  for (const std::string& entry : audit_of(bench.records)) {
    count += nlohmann::json::parse(entry).at("event") == event ? 1 : 0;
  }
  return count;
}

/// Which of the nodes holds an open task; 0 if none does.
unsigned asked(const Bench& bench, unsigned after = 0) {
  for (unsigned n = after + 1; n <= bench.state.fleet.nodes.size(); ++n) {
    if (!bench.task_of(n).is_zero()) return n;
  }
  return 0;
}

}  // namespace

TEST_CASE("a round does not wait for a node that declined", "[coordinator][declines]") {
  Bench bench;
  bench.fleet(4);
  bench.start();
  const TaskId task = bench.task_of(3);
  for (const unsigned n : {1U, 2U}) bench.upload(n);
  const auto effects = decline(bench, 3, Reason::too_few_samples);
  REQUIRE(bench.in<Training>());
  const effect::Notice* notice = notice_of(effects, "task_declined");
  REQUIRE(notice != nullptr);
  REQUIRE(notice->reason == "too_few_samples");
  REQUIRE(notice->fields.at(0).second == node_id(3).hex());
  REQUIRE(audited(bench, "task_declined") == 1);
  REQUIRE(bench.task_of(3).is_zero());
  REQUIRE(bench.state.round.summary.declined == 1);
  // The last one that may still bring an update closes the round.
  REQUIRE(all_of<effect::Aggregate>(bench.upload(4)).at(0).entries.size() == 3);
  REQUIRE_FALSE(bench.records["tasks"].contains(copy_of(task.span())));
  REQUIRE_FALSE(verify_audit(audit_of(bench.records)));
}

TEST_CASE("the last decline closes a round at once", "[coordinator][declines]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  std::vector<Effect> effects;
  SECTION("with what was brought") {
    bench.upload(1);
    bench.upload(2);
    effects = decline(bench, 3);
    REQUIRE(all_of<effect::Aggregate>(effects).at(0).entries.size() == 2);
  }
  SECTION("as failed, if that is too little") {
    bench.upload(1);
    decline(bench, 2);
    effects = decline(bench, 3, Reason::too_few_samples);
    REQUIRE(bench.state.rounds.back().reason ==
            "1 of 3 nodes brought an update that counts, 2 are needed; declined: 1 training_failed, "
            "1 too_few_samples");
  }
  SECTION("as failed, if nobody brought anything") {
    for (unsigned n = 1; n <= 3; ++n) effects = decline(bench, n);
    REQUIRE(bench.state.rounds.back().state == "failed");
    REQUIRE(bench.state.rounds.back().declined == 3);
    REQUIRE(bench.state.rounds.back().reason ==
            "0 of 3 nodes brought an update that counts, 2 are needed; declined: 3 training_failed");
    REQUIRE(bench.records["tasks"].empty());
    // They are free for the next round.
    REQUIRE(sent<message::Task>(bench.start()).size() == 3);
  }
}

TEST_CASE("a task that was declined is over for its node", "[coordinator][declines]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const UpdateHeader header = bench.header_of(3);
  decline(bench, 3);
  const auto check = [&] {
    REQUIRE(sent<message::Task>(bench.connect(3, 100, 50, 30)).empty());
    REQUIRE(sent<message::Receipt>(bench.offer(3, header)).at(0).reason == Reason::round_closed);
    const auto again = decline(bench, 3, header.task);
    REQUIRE(sent<message::Receipt>(again).empty());
    REQUIRE(notice_of(again, "decline_refused")->reason == "round_closed");
    REQUIRE(bench.state.round.summary.declined == 1);
    REQUIRE(std::get<Training>(bench.state.round.phase).open == 2);
    REQUIRE(audited(bench, "task_declined") == 1);
  };
  SECTION("in this process") { check(); }
  SECTION("and in the next one, which says why too") {
    bench.restart();
    for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
    check();
    decline(bench, 1);
    decline(bench, 2);
    REQUIRE(bench.state.rounds.back().reason.find("declined: 3 training_failed") != std::string::npos);
  }
}

TEST_CASE("a node can decline no task but its own open one", "[coordinator][declines]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const auto answer = [&](unsigned n, const TaskId& task) {
    const auto receipts = sent<message::Receipt>(decline(bench, n, task), n);
    REQUIRE(receipts.size() == 1);
    REQUIRE(receipts[0].outcome == message::ReceiptOutcome::refused);
    return receipts[0].reason;
  };
  REQUIRE(answer(1, bench.task_of(2)) == Reason::not_your_task);
  REQUIRE(answer(1, TaskId{}) == Reason::unknown_task);
  REQUIRE(std::get<Training>(bench.state.round.phase).open == 3);

  const TaskId accepted = bench.task_of(1);
  bench.upload(1);
  REQUIRE(sent<message::Receipt>(decline(bench, 1, accepted)).empty());
  REQUIRE(std::get<Training>(bench.state.round.phase).accepted.size() == 1);
  for (const unsigned n : {2U, 3U}) bench.upload(n);
  REQUIRE(bench.in<Aggregating>());
  // Too late: its round is over, or another phase of it.
  REQUIRE(sent<message::Receipt>(decline(bench, 1, accepted)).empty());
  REQUIRE(bench.state.round.summary.declined == 0);
  REQUIRE(audited(bench, "task_declined") == 0);
  // From a session that is gone nothing is heard.
  REQUIRE(bench.give(event::DeclinedReceived{99, {accepted, Reason::none, ""}}).empty());
}

TEST_CASE("who offers and then declines takes the offer back", "[coordinator][declines]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const UpdateHeader header = bench.header_of(2);
  bench.offer(2, header);
  const auto effects = decline(bench, 2);
  REQUIRE(all_of<effect::DropFetch>(effects).at(0).task == header.task);
  const auto late = bench.give(event::UpdateStored{header.task, header.content, {1.0}});
  REQUIRE(all_of<effect::EraseContent>(late).at(0).content == header.content);
  REQUIRE(std::get<Training>(bench.state.round.phase).accepted.empty());
}

TEST_CASE("while storage is full a decline is told to come later", "[coordinator][declines][storage]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const TaskId task = bench.task_of(1);
  bench.give(event::StorageState{true, false});
  REQUIRE(sent<message::Backoff>(decline(bench, 1)).at(0).reason == Reason::storage_full);
  REQUIRE(bench.task_of(1) == task);
  bench.give(event::StorageState{});
  REQUIRE(sent<message::Task>(bench.connect(1, 100, 50, 11)).at(0).id == task);
  decline(bench, 1);
  REQUIRE(bench.task_of(1).is_zero());
}

TEST_CASE("an evaluator that declines is replaced, and is not asked again", "[coordinator][declines][gate]") {
  Config config = test_config();
  config.validation.evaluators = 2;
  Bench bench(config);
  bench.fleet(4);
  bench.start();
  bench.up_to_gating();
  const unsigned first = asked(bench);
  const unsigned second = asked(bench, first);
  REQUIRE(second != 0);
  const auto replaced = sent<message::Task>(decline(bench, first));
  REQUIRE(replaced.size() == 1);
  REQUIRE(replaced[0].type == message::TaskType::evaluate);
  REQUIRE(bench.task_of(first).is_zero());
  const SessionId session = bench.state.fleet.find(node_id(first))->session;
  REQUIRE(
      sent<message::Task>(bench.give(event::TelemetryReceived{session, message::Telemetry{1, 100, 50, 0, 0}}))
          .empty());
  // A late report of who declined counts for nothing.
  const auto& evaluators = std::get<Gating>(bench.state.round.phase).evaluators;
  const auto declined =
      std::ranges::find_if(evaluators, [](const auto& at) { return bool(at.second.declined); });
  const auto report = report_for(bench.state, node_id(first), declined->first, 0, 0, 100);
  const auto receipt = sent<message::Receipt>(bench.give(event::EvaluationReceived{
      session, rivulet::seal(node_key(first), Context::evaluation, encode(report))}));
  REQUIRE(receipt.at(0).reason == Reason::round_closed);

  std::vector<Effect> effects;
  for (unsigned n = asked(bench); n != 0; n = asked(bench)) effects = bench.report(n, 0, 0);
  REQUIRE(all_of<effect::SealVersion>(effects).size() == 1);
}

TEST_CASE("the gate decides as soon as all who were asked have answered", "[coordinator][declines][gate]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  bench.up_to_gating();
  SECTION("with enough reports it publishes") {
    bench.report(1, 0, 0);
    bench.report(2, 0, 0);
    REQUIRE(all_of<effect::SealVersion>(decline(bench, 3)).size() == 1);
  }
  SECTION("with too few it fails, and says why") {
    bench.report(1, 0, 0);
    decline(bench, 2, Reason::corrupt_content);
    bench.restart();
    for (unsigned n = 1; n <= 3; ++n)
      REQUIRE(sent<message::Task>(bench.connect(n)).size() == (n == 3 ? 1 : 0));
    decline(bench, 3, Reason::too_few_samples);
    const RoundSummary& round = bench.state.rounds.back();
    REQUIRE(round.state == "failed");
    REQUIRE(round.reason.find("; declined: 1 corrupt_content, 1 too_few_samples") != std::string::npos);
    REQUIRE(round.declined == 2);
    REQUIRE(bench.records["tasks"].empty());
  }
  SECTION("a gate that nobody was asked for yet goes on waiting") {
    Bench other;
    other.fleet(2);
    other.start();
    for (unsigned n = 1; n <= 2; ++n) other.state.fleet.find(node_id(n))->holdout_samples = 0;
    other.up_to_gating();
    other.pass(1s);
    REQUIRE(other.in<Gating>());
  }
}

TEST_CASE("a reason that a newer node sends has no name, and a task record keeps it",
          "[coordinator][declines]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const TaskId task = bench.task_of(1);
  const auto effects = decline(bench, 1, static_cast<Reason>(4000));
  REQUIRE(notice_of(effects, "task_declined")->reason == "unknown");
  const auto record = parse_record<TaskRecord>(bench.records["tasks"].at(copy_of(task.span())));
  REQUIRE(record.has_value());
  REQUIRE(record->declined == Refusal{static_cast<Reason>(4000), "out of memory"});
}

}  // namespace rivulet::coordinator::testing
