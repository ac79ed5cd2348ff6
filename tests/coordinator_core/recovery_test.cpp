#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

Error recovery_error(const Records& records, const Config& config = test_config()) {
  const auto state = recover(config, RecordStore(records), Now{});
  REQUIRE_FALSE(state.has_value());
  return state.error();
}

}  // namespace

TEST_CASE("a store without a fleet, or with damage, is named", "[coordinator][recovery]") {
  REQUIRE(recovery_error({}).code == Errc::not_found);
  Bench bench;
  bench.fleet(2);
  bench.start();
  bench.upload(1);
  Records records = bench.records;
  SECTION("a record that is no JSON") {
    records["nodes"].begin()->second = copy_of(bytes_of("{\"key\":"));
    const Error error = recovery_error(records);
    REQUIRE(error.code == Errc::corrupt);
    REQUIRE(error.detail.find("nodes") != std::string::npos);
    REQUIRE(error.detail.find(to_hex(records["nodes"].begin()->first)) != std::string::npos);
  }
  SECTION("an update without a verdict, whose round is over") {
    records["rounds"].clear();
    REQUIRE(recovery_error(records).code == Errc::corrupt);
  }
  SECTION("a version that is missing") {
    records["versions"].clear();
    REQUIRE(recovery_error(records).code == Errc::corrupt);
  }
  SECTION("a newer format") {
    const Bytes key = copy_of(bytes_of("fleet"));
    records["meta"][key] = copy_of(bytes_of(R"({"format":2,"seed":1})"));
    REQUIRE(recovery_error(records).code == Errc::unsupported);
  }
  SECTION("a bad configuration") {
    Config config;
    config.round.cohort = 0;
    REQUIRE(recovery_error(records, config).code == Errc::invalid);
  }
}

TEST_CASE("a start reads the end of the audit log, and the rounds that are listed",
          "[coordinator][recovery]") {
  Config config = test_config();
  config.limits.rounds_listed = 2;
  Bench bench(config);
  bench.fleet(2);
  bench.start(4);
  for (int round = 0; round < 3; ++round) bench.publish_one();
  REQUIRE(bench.in<Training>());
  Records records = bench.records;
  REQUIRE(records["rounds"].size() == 4);
  const Bytes garbage = copy_of(bytes_of("not read"));
  for (const std::uint64_t round : {1, 2}) records["rounds"][number_key(round)] = garbage;
  records["audit"][number_key(1)] = garbage;
  const auto state = recover(config, RecordStore(records), bench.now);
  REQUIRE(state.has_value());
  REQUIRE(state->audit == bench.state.audit);
  REQUIRE(state->round.plan == bench.state.round.plan);
  REQUIRE(state->rounds.size() == 1);
  REQUIRE(state->rounds.back().round == 3);

  records["audit"].rbegin()->second = garbage;
  REQUIRE(recover(config, RecordStore(records), bench.now).error().code == Errc::corrupt);
}

TEST_CASE("a version whose parent is missing is named", "[coordinator][recovery]") {
  Bench bench;
  bench.fleet(2);
  bench.start(2);
  bench.publish_one();
  bench.publish_one();
  Records records = bench.records;
  REQUIRE(records["versions"].erase(number_key(2)) == 1);
  const Error error = recovery_error(records);
  REQUIRE(error.code == Errc::corrupt);
  REQUIRE(error.detail == "store: version 2 is not there, the parent of 3");
}

TEST_CASE("a restart in each phase goes on where it was", "[coordinator][recovery]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const TaskId task = bench.task_of(3);
  const RoundPlan plan = bench.state.round.plan;
  const auto reconnect = [&] {
    auto effects = bench.restart();
    for (unsigned n = 1; n <= 3; ++n) bench.connect(n);
    REQUIRE(bench.state.round.plan == plan);
    return effects;
  };
  reconnect();
  REQUIRE(bench.in<Training>());
  bench.upload(1);
  bench.upload(2);
  const RoundSummary summary = bench.state.round.summary;
  reconnect();
  REQUIRE(bench.task_of(3) == task);
  REQUIRE(bench.state.round.summary == summary);
  const auto asked = all_of<effect::Aggregate>(bench.upload(3)).at(0);
  const auto again = all_of<effect::Aggregate>(reconnect()).at(0);
  REQUIRE(again.entries == asked.entries);
  bench.aggregated(again);
  bench.report(1, 0, 0);
  bench.report(2, 0, 0);
  reconnect();
  REQUIRE(std::get<Gating>(bench.state.round.phase).reports == 2);
  const auto seal_asked = all_of<effect::SealVersion>(bench.report(3, 0, 0)).at(0);
  const auto seal_again = all_of<effect::SealVersion>(reconnect()).at(0);
  REQUIRE(seal_again.manifest.version == seal_asked.manifest.version);
  bench.sealed(seal_again);
  REQUIRE(bench.state.rounds.back().metrics == Metrics{1.0, 0.01, 300});
  bench.restart();
  REQUIRE(bench.in<Idle>());
  REQUIRE(bench.state.registry.head == 2);
  REQUIRE(bench.state.rounds.size() == 1);
  REQUIRE(bench.state.audit.seq == audit_of(bench.records).size());
}

TEST_CASE("a changed configuration counts from the next round on", "[coordinator][recovery]") {
  Bench bench;
  bench.fleet(2);
  bench.start(2);
  bench.state.config.training.epochs = 9;
  bench.restart();
  bench.connect(1);
  bench.connect(2);
  REQUIRE(bench.state.round.plan.training.epochs == 1);
  bench.publish_one();
  REQUIRE(bench.state.round.plan.training.epochs == 9);
}

TEST_CASE("deadlines run by the monotonic clock, whatever the calendar does", "[coordinator][clocks]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  bench.now.utc += 24h * 100;
  bench.give(event::Tick{});
  REQUIRE(bench.in<Training>());
  bench.now.utc -= 24h * 300;
  bench.pass(599s);
  REQUIRE(bench.in<Training>());
  bench.pass(1s);
  REQUIRE(bench.state.rounds.back().state == "failed");
}

TEST_CASE("after a restart a deadline is within its length, whatever the calendar says",
          "[coordinator][clocks]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  bench.pass(100s);
  bench.now.monotonic = 7s;  // A machine that started anew.
  SECTION("the calendar is right") {
    bench.restart();
    REQUIRE(next_deadline(bench.state) == 507s);
  }
  SECTION("it went back by years") {
    bench.now.utc -= 24h * 1000;
    bench.restart();
    REQUIRE(next_deadline(bench.state) == 607s);
  }
  SECTION("it jumped ahead") {
    bench.now.utc += 24h * 100;
    bench.restart();
    REQUIRE(bench.state.rounds.back().state == "failed");
  }
}

TEST_CASE("old verdicts are forgotten, in memory and in the store", "[coordinator][recovery]") {
  Config config = test_config();
  config.limits.verdict_rounds = 2;
  Bench bench(config);
  bench.fleet(2);
  bench.start(5);
  const TaskId first = bench.task_of(1);
  for (int k = 0; k < 5; ++k) bench.publish_one();
  REQUIRE_FALSE(bench.verdict_of(first));
  REQUIRE(bench.records["verdicts"].size() == bench.state.verdicts.size());
  REQUIRE(bench.state.verdicts.size() == 2 * 3);
  bench.restart();
  REQUIRE(bench.state.verdicts.size() == 6);
}

TEST_CASE("a verdict stays until its node knows it, however long that takes", "[coordinator][recovery]") {
  Config config = test_config();
  config.round.cohort = 3;
  config.round.cohort_min = 2;
  config.limits.verdict_rounds = 1;
  Bench bench(config);
  bench.fleet(3);
  bench.start(12);
  const TaskId task = bench.task_of(3);
  const auto expect_aggregated = [&](const std::vector<Effect>& effects) {
    const auto told = sent<message::Verdicts>(effects);
    REQUIRE(told.size() == 1);
    REQUIRE(told[0].entries ==
            std::vector{message::Verdict{task, message::VerdictOutcome::aggregated, Reason::none, 2}});
  };
  const auto ask = [&](SessionId session) {
    bench.give(event::HelloReceived{session, node_id(3), message::Hello{1, 1, test_fleet(), "test"}});
    message::Ready ready;  // Of a node without samples: it is asked for nothing more.
    ready.awaiting_verdict = {task};
    return bench.give(event::ReadyReceived{session, ready});
  };
  // Node 3 goes with an accepted update, and does not hear how the round ended.
  bench.upload(3);
  bench.give(event::SessionClosed{3});
  for (int k = 0; k < 5; ++k) bench.publish_one();
  REQUIRE(bench.verdict_of(task));
  SECTION("it asks after many rounds") { expect_aggregated(ask(50)); }
  SECTION("it asks after a restart, and its answer gets lost") {
    bench.restart();
    for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
    for (int k = 0; k < 2; ++k) bench.publish_one();
    expect_aggregated(ask(50));
    for (int k = 0; k < 2; ++k) bench.publish_one();
    expect_aggregated(ask(51));
  }
  // It comes again and does not ask: it knows.
  bench.connect(3, 0, 0, 60);
  bench.publish_one();
  REQUIRE_FALSE(bench.verdict_of(task));
  for (const auto& [key, value] : bench.records["verdicts"])
    REQUIRE(parse_record<VerdictRecord>(value)->task != task);
}

TEST_CASE("the verdicts of nodes that are revoked, or train on, are forgotten", "[coordinator][recovery]") {
  Config config = test_config();
  config.round.cohort = 3;
  config.round.cohort_min = 2;
  config.limits.verdict_rounds = 1;
  Bench bench(config);
  bench.fleet(3);
  bench.start(8);
  const TaskId task = bench.task_of(3);
  bench.upload(3);
  bench.give(event::SessionClosed{3});
  for (int k = 0; k < 3; ++k) bench.publish_one();
  // In one long session nodes 1 and 2 have shown by their later updates that they heard.
  REQUIRE(bench.state.verdicts.size() == 2 + 1);
  REQUIRE(bench.verdict_of(task));
  bench.give(event::RevokeNode{++bench.last_request, node_id(3)});
  bench.publish_one();
  REQUIRE_FALSE(bench.verdict_of(task));
}

TEST_CASE("a refusal of content holds over a restart", "[coordinator][recovery]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  bench.offer(1, header);
  bench.give(event::UpdateRejected{header.task, header.content, Reason::bad_scale, "segment 3"});
  const bool too_large = GENERATE(false, true);
  const UpdateHeader second = bench.header_of(2);
  bench.offer(2, second);
  if (too_large) bench.give(event::UpdateStored{second.task, second.content, {1e9}});
  bench.restart();
  for (unsigned n = 1; n <= 3; ++n) bench.connect(n);
  REQUIRE(bench.task_of(1).is_zero());
  REQUIRE(bench.state.round.summary.refused == (too_large ? 2 : 1));
  const auto again = sent<message::Receipt>(bench.offer(1, header)).at(0);
  REQUIRE(again.outcome == message::ReceiptOutcome::refused);
  REQUIRE(again.reason == Reason::bad_scale);
  REQUIRE(again.detail == "segment 3");
  const auto effects = bench.offer(2, second);
  REQUIRE(all_of<effect::FetchUpdate>(effects).size() == (too_large ? 0 : 1));
  if (too_large) {
    REQUIRE(sent<message::Receipt>(effects).at(0).reason == Reason::norm_too_large);
    return;
  }
  bench.give(event::UpdateStored{second.task, second.content, {1}});
  bench.upload(3);
  REQUIRE(bench.in<Aggregating>());  // Nobody waits for the one that was refused.
  REQUIRE(bench.records["tasks"].empty());
}

}  // namespace rivulet::coordinator::testing
