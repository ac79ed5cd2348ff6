#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

using message::ReceiptOutcome;

std::vector<Effect> ready(Bench& bench, SessionId session, message::Ready ready_message) {
  return bench.give(event::ReadyReceived{session, std::move(ready_message)});
}

}  // namespace

TEST_CASE("a newer session replaces the older one, whose events then change nothing",
          "[coordinator][sessions]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  const auto effects = bench.connect(1, 100, 50, 77);
  const auto closed = all_of<effect::Close>(effects);
  REQUIRE(closed.size() == 1);
  REQUIRE(closed[0].session == 1);
  REQUIRE(closed[0].reason == Reason::replaced);
  const Envelope offer = rivulet::seal(node_key(1), Context::update, encode(header));
  REQUIRE(bench.give(event::OfferReceived{1, offer}).empty());
  REQUIRE(bench.give(event::ReadyReceived{1, {}}).empty());
  bench.give(event::SessionClosed{1});
  REQUIRE(bench.state.fleet.find(node_id(1))->session == 77);
  REQUIRE(bench.state.fleet.find(node_id(1))->ready);
  REQUIRE(all_of<effect::FetchUpdate>(bench.give(event::OfferReceived{77, offer})).at(0).session == 77);
}

TEST_CASE("a welcome waits for no disk, and what it changed is written with ready",
          "[coordinator][sessions]") {
  Bench bench;
  bench.fleet(2);
  const auto stored = [&] {
    const Bytes& record = bench.records["nodes"].at(copy_of(node_id(1).span()));
    return parse_record<NodeRecord>(record)->software;
  };
  bench.now.monotonic += 5s;
  bench.now.utc += 5s;
  const auto opened = step(
      bench.state, event::HelloReceived{33, node_id(1), message::Hello{1, 1, test_fleet(), "v2"}}, bench.now);
  REQUIRE(all_of<effect::SendWelcome>(opened.effects).size() == 1);
  REQUIRE(all_of<effect::Close>(opened.effects).at(0).reason == Reason::replaced);
  CHECK(opened.writes.empty());
  CHECK(may_overtake(bench.state, opened));
  CHECK(bench.state.fleet.find(node_id(1))->record.last_seen == bench.now.utc);
  CHECK(stored() == "test");

  SECTION("a second ready writes nothing more") {
    bench.give(event::ReadyReceived{33, {}});
    CHECK(stored() == "v2");
    CHECK(step(bench.state, event::ReadyReceived{33, {}}, bench.now).writes.empty());
  }
  SECTION("a session that ends before it was ready is written then") {
    bench.give(event::SessionClosed{33});
    CHECK(stored() == "v2");
  }
  SECTION("all that is promised stays behind what was promised before") {
    CHECK_FALSE(may_overtake(bench.state, step(bench.state, event::ReadyReceived{33, {}}, bench.now)));
    const auto refused =
        step(bench.state, event::HelloReceived{34, node_id(9), message::Hello{1, 1, test_fleet(), "t"}},
             bench.now);
    REQUIRE(all_of<effect::Close>(refused.effects).at(0).reason == Reason::unknown_key);
    CHECK_FALSE(may_overtake(bench.state, refused));
    const auto enrolled =
        step(bench.state,
             event::EnrolReceived{35, node_id(3), message::Enrol{1, 1, test_fleet(), "t", test_secret(0)}},
             bench.now);
    REQUIRE(sent<message::Enrolled>(enrolled.effects).size() == 1);
    CHECK_FALSE(may_overtake(bench.state, enrolled));
    CHECK_FALSE(may_overtake(bench.state, step(bench.state, event::StartRounds{9, 1, false}, bench.now)));
  }
}

TEST_CASE("a node that comes back gets its open task again, with the time that is left",
          "[coordinator][sessions]") {
  Bench bench;
  bench.fleet(2);
  const auto first = sent<message::Task>(bench.start(), 1);
  REQUIRE(first.at(0).remaining_ms == 600'000);
  bench.give(event::SessionClosed{1});
  REQUIRE(bench.state.fleet.active_ready == 1);
  bench.pass(100s);
  const auto second = sent<message::Task>(bench.connect(1, 100, 50, 9), 9);
  REQUIRE(second.size() == 1);
  REQUIRE(second[0].id == first[0].id);
  REQUIRE(second[0].remaining_ms == 500'000);
  REQUIRE(second[0].training == first[0].training);
  REQUIRE(first[0].training.seed !=
          sent<message::Task>(bench.connect(2, 100, 50, 10), 10).at(0).training.seed);
}

TEST_CASE("ready brings verdicts, cancels what is over, and assigns what differs",
          "[coordinator][sessions]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const TaskId task = bench.task_of(1);
  bench.publish_one();
  TaskId strange;
  strange.bytes[0] = std::byte{9};
  SECTION("a verdict that it waits for") {
    message::Ready message{2, 2, 100, 50, {}, {task}};
    const auto verdicts = sent<message::Verdicts>(ready(bench, 1, message), 1);
    REQUIRE(verdicts.at(0).entries.at(0) ==
            message::Verdict{task, message::VerdictOutcome::aggregated, Reason::none, 2});
  }
  SECTION("a task whose receipt it missed") {
    const auto effects = ready(bench, 1, {2, 2, 100, 50, {task}, {}});
    REQUIRE(sent<message::Receipt>(effects, 1).at(0) ==
            message::Receipt{task, ReceiptOutcome::accepted, Reason::none, ""});
    REQUIRE(sent<message::Verdicts>(effects, 1).at(0).entries.at(0).version == 2);
    REQUIRE(sent<message::TaskCancelled>(effects, 1).empty());
  }
  SECTION("a task that it does not have, and another node's") {
    const auto effects = ready(bench, 2, {2, 2, 100, 50, {strange, task}, {}});
    const auto cancelled = sent<message::TaskCancelled>(effects, 2);
    REQUIRE(cancelled.size() == 2);
    REQUIRE(sent<message::Verdicts>(effects, 2).empty());
  }
  SECTION("a verdict on an update that nobody knows ends the waiting") {
    const auto verdicts = sent<message::Verdicts>(ready(bench, 1, {2, 2, 100, 50, {}, {strange}}), 1);
    REQUIRE(verdicts.at(0).entries.at(0).outcome == message::VerdictOutcome::discarded);
  }
  SECTION("the assignment only if it differs") {
    REQUIRE(sent<message::Assignment>(ready(bench, 1, {2, 2, 100, 50, {}, {}})).empty());
    const auto older = sent<message::Assignment>(ready(bench, 1, {1, 1, 100, 50, {}, {}}), 1);
    REQUIRE(decode_version(older.at(0).manifest.payload)->version == 2);
    // It serves the right version, but under an older manifest.
    REQUIRE(sent<message::Assignment>(ready(bench, 1, {2, 1, 100, 50, {}, {}})).size() == 1);
  }
}

TEST_CASE("the same content gets the recorded receipt again, other content is a duplicate",
          "[coordinator][offers]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  UpdateHeader other = header;
  other.content = content("trained anew");
  bench.upload(1);
  const auto check = [&] {
    const auto again = bench.offer(1, header);
    REQUIRE(sent<message::Receipt>(again).at(0) ==
            message::Receipt{header.task, ReceiptOutcome::accepted, Reason::none, ""});
    REQUIRE(all_of<effect::FetchUpdate>(again).empty());
    const auto receipt = sent<message::Receipt>(bench.offer(1, other)).at(0);
    REQUIRE(receipt.outcome == ReceiptOutcome::duplicate);
    REQUIRE(receipt.reason == Reason::duplicate_content);
  };
  check();
  bench.restart();
  bench.connect(1);
  bench.connect(2);
  bench.connect(3);
  check();
  bench.upload(2);
  bench.upload(3);
  REQUIRE(bench.in<Aggregating>());
  check();
  bench.give(event::AggregationFailed{1, 0, {Errc::internal, "no"}});
  check();
  REQUIRE(bench.state.rounds.back().accepted == 3);
}

TEST_CASE("offers are judged against the round in progress", "[coordinator][offers]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const auto reason_of = [&](unsigned n, const UpdateHeader& header) {
    const auto effects = bench.offer(n, header);
    REQUIRE(all_of<effect::FetchUpdate>(effects).empty());
    return sent<message::Receipt>(effects).at(0).reason;
  };
  UpdateHeader header = bench.header_of(1);
  header.node = node_id(2);
  REQUIRE(reason_of(2, header) == Reason::not_your_task);
  REQUIRE(reason_of(1, header) == Reason::bad_signature);
  header = bench.header_of(1);
  header.base_version = 9;
  REQUIRE(reason_of(1, header) == Reason::stale_base);
  REQUIRE(bench.state.round.summary.refused == 3);
  // The fault was in the header alone: a right one is still taken.
  REQUIRE(all_of<effect::FetchUpdate>(bench.offer(1, bench.header_of(1))).size() == 1);

  header = bench.header_of(1);
  bench.pass(600s);
  REQUIRE(bench.state.rounds.back().state == "failed");
  REQUIRE(reason_of(1, header) == Reason::round_closed);
  header.task.bytes[3] ^= std::byte{1};
  REQUIRE(reason_of(1, header) == Reason::unknown_task);
}

TEST_CASE("content that is no good is refused for the rest of the round", "[coordinator][offers]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  bench.offer(1, header);
  std::vector<Effect> effects;
  Reason reason = Reason::none;
  SECTION("the driver says so") {
    reason = Reason::not_finite;
    effects = bench.give(event::UpdateRejected{header.task, header.content, reason, "entry 3 is NaN"});
  }
  SECTION("its norm is above 4 times the bound") {
    reason = Reason::norm_too_large;
    effects = bench.give(event::UpdateStored{header.task, header.content, {40.001}});
    REQUIRE(all_of<effect::EraseContent>(effects).at(0).content == header.content);
  }
  REQUIRE(sent<message::Receipt>(effects, 1).at(0).reason == reason);
  REQUIRE(sent<message::Receipt>(bench.offer(1, header), 1).at(0).reason == reason);
  REQUIRE(bench.records["updates"].empty());
  // Nobody waits for the refused one: the round closes with the two others.
  bench.upload(2, 40.0);
  bench.upload(3);
  REQUIRE(bench.in<Aggregating>());
}

TEST_CASE("a transfer that fails may be offered again", "[coordinator][offers]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  bench.offer(1, header);
  bench.give(event::UpdateTransferFailed{header.task, header.content, "the connection was lost"});
  // An answer to a fetch that is over counts for nothing.
  bench.give(event::UpdateStored{header.task, header.content, {1.0}});
  REQUIRE(bench.state.round.summary.accepted == 0);
  REQUIRE(all_of<effect::FetchUpdate>(bench.offer(1, header)).size() == 1);
  bench.give(event::UpdateStored{header.task, header.content, {1.0}});
  REQUIRE(bench.state.round.summary.accepted == 1);
}

TEST_CASE("a transfer that fails in a session that is over leaves the one that took its place alone",
          "[coordinator][offers]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const UpdateHeader header = bench.header_of(1);
  bench.offer(1, header);
  // While the disk takes its time the node comes back and offers again; the failure is heard of after that.
  bench.connect(1, 100, 50, 9);
  bench.give(event::OfferReceived{9, rivulet::seal(node_key(1), Context::update, encode(header))});
  bench.give(event::UpdateTransferFailed{header.task, header.content, "the connection was lost", 1});
  SECTION("the second transfer brings it") {
    const auto effects = bench.give(event::UpdateStored{header.task, header.content, {1.0}});
    REQUIRE(sent<message::Receipt>(effects, 9).at(0).outcome == ReceiptOutcome::accepted);
    REQUIRE(bench.state.round.summary.accepted == 1);
  }
  SECTION("or fails too") {
    bench.give(event::UpdateTransferFailed{header.task, header.content, "the connection was lost", 9});
    bench.give(event::UpdateStored{header.task, header.content, {1.0}});
    REQUIRE(bench.state.round.summary.accepted == 0);
  }
}

TEST_CASE("while storage is full rounds pause, offers back off, and nothing accepted is lost",
          "[coordinator][storage]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  bench.upload(1);
  const UpdateHeader on_its_way = bench.header_of(2);
  bench.offer(2, on_its_way);
  const UpdateHeader third = bench.header_of(3);
  bench.offer(3, third);
  bench.give(event::StorageState{true, false});
  REQUIRE_FALSE(next_deadline(bench.state).has_value());
  const auto backoff = sent<message::Backoff>(bench.offer(3, third), 3);
  REQUIRE(backoff.at(0) == message::Backoff{Reason::storage_full, 30'000});
  bench.give(event::UpdateStored{on_its_way.task, on_its_way.content, {1.0}});
  bench.give(event::UpdateStored{third.task, third.content, {1.0}});
  bench.pass(600s);
  REQUIRE(bench.in<Training>());
  REQUIRE(bench.records["updates"].size() == 3);
  bench.give(event::StorageState{false, false});
  REQUIRE(bench.in<Aggregating>());
}

TEST_CASE("a round that fills the quota ends when its time is over, and makes room",
          "[coordinator][storage]") {
  Bench bench;
  bench.fleet(2);
  bench.start(4);
  const event::StorageState over{.full = true, .over_quota = true};
  const auto failed = [&](const std::vector<Effect>& effects) {
    CHECK(bench.state.rounds.back().reason.find("blob_quota_mib") != std::string::npos);
    bench.give(event::StorageState{});
    bench.pass(1s);
    return bench.in<Training>() && !all_of<effect::EraseContent>(effects).empty();
  };
  bench.upload(1);
  bench.give(over);
  REQUIRE(bench.in<Training>());  // Others may still come, and room with them.
  bench.give(event::StorageState{.full = true});
  bench.pass(bench.state.round.plan.config.deadline);
  REQUIRE(bench.in<Training>());  // A full disk may have room again any time.
  REQUIRE(failed(bench.give(over)));

  bench.upload(1);
  const auto sum = all_of<effect::Aggregate>(bench.upload(2)).at(0);
  bench.give(over);
  REQUIRE(bench.in<Aggregating>());  // It is under way.
  bench.give(event::AggregationFailed{sum.round, sum.attempt, {Errc::storage_full, "full"}});
  REQUIRE(failed(bench.give(over)));

  bench.up_to_gating();
  bench.report(1, 0, 0);
  const auto asked = all_of<effect::SealVersion>(bench.report(2, 0, 0)).at(0);
  bench.give(event::PublicationFailed{asked.manifest.manifest_version, {Errc::storage_full, "full"}});
  REQUIRE(bench.in<Publishing>());
  REQUIRE(failed(bench.give(over)));
  REQUIRE(bench.state.schedule.failures == 2);  // Those that came as far as to their work.
}

TEST_CASE("after a failed disk nothing goes on before a restart", "[coordinator][storage]") {
  Bench bench;
  bench.fleet(2);
  bench.give(event::StorageState{false, true});
  bench.give(event::StorageState{false, false});
  bench.start();
  REQUIRE(bench.in<Idle>());
  const auto enrol = bench.give(
      event::EnrolReceived{50, node_id(9), message::Enrol{1, 1, test_fleet(), "t", test_secret(0)}});
  REQUIRE(sent<message::Backoff>(enrol, 50).at(0).reason == Reason::storage_failed);
}

TEST_CASE("a shutdown says goodbye to every session, and to who waits", "[coordinator][sessions]") {
  Bench bench;
  bench.fleet(2);
  bench.give(event::StartRounds{99, 1, true});
  const auto effects = bench.give(event::ShuttingDown{});
  REQUIRE(sent<message::Backoff>(effects).size() == 2);
  REQUIRE(all_of<effect::Close>(effects).size() == 2);
  REQUIRE(all_of<effect::Reply>(effects).at(0).result.error().code == Errc::cancelled);
  REQUIRE(all_of<effect::Close>(
              bench.give(event::HelloReceived{70, node_id(1), message::Hello{1, 1, test_fleet(), "t"}}))
              .at(0)
              .reason == Reason::shutting_down);
}

}  // namespace rivulet::coordinator::testing
