#include "coordinator/core/message_budget.h"
#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

/// How many of `count` messages at one moment are let through.
int taken(MessageBudget& budget, const LimitsConfig& limits, Now now, int count) {
  int through = 0;
  for (int i = 0; i < count; ++i) through += budget.take(limits, now) ? 1 : 0;
  return through;
}

std::vector<effect::Notice> complaints(const std::vector<Effect>& effects) {
  auto notices = all_of<effect::Notice>(effects);
  std::erase_if(notices, [](const effect::Notice& notice) { return notice.event != "too_many_messages"; });
  return notices;
}

}  // namespace

TEST_CASE("a budget lets a burst through, and then a steady rate", "[coordinator][limits]") {
  LimitsConfig limits;
  limits.messages_burst = 100;
  limits.messages_per_second = 8;
  MessageBudget budget;
  Now now{1h, {}};
  CHECK(taken(budget, limits, now, 1000) == 100);
  // 100 tokens are gone, 50 come back in 50 / 8 s.
  CHECK(budget.until_half(limits, now) == 6250ms);
  now.monotonic += 124ms;
  CHECK(taken(budget, limits, now, 10) == 0);
  now.monotonic += 1ms;
  CHECK(taken(budget, limits, now, 10) == 1);
  now.monotonic += 3s;
  CHECK(taken(budget, limits, now, 100) == 24);
  // Tokens do not heap up.
  now.monotonic += 10h;
  CHECK(budget.until_half(limits, now) == 0ms);
  CHECK(taken(budget, limits, now, 1000) == 100);
}

TEST_CASE("whoever repeats cheap messages without end is sent away, before they cost anything",
          "[coordinator][limits]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const LimitsConfig& limits = bench.state.config.limits;
  Envelope forged;  // Its signature is no good, so that each offer has an answer and a line in the log.
  forged.payload = Bytes(40);
  const message::Ready ready{0, 0, 100, 50, {}, {}};
  const auto message = GENERATE_COPY(
      values<std::pair<const char*, Event>>({{"ready", event::ReadyReceived{1, ready}},
                                             {"offer", event::OfferReceived{1, forged}},
                                             {"report", event::EvaluationReceived{1, forged}},
                                             {"decline", event::DeclinedReceived{1, {}}},
                                             {"telemetry", event::TelemetryReceived{1, {}}},
                                             {"activation", event::ActivationReceived{1, {}}}}));
  CAPTURE(message.first);
  std::uint32_t heard = 2;  // Hello and ready.
  std::vector<Effect> effects;
  while (complaints(effects = bench.give(message.second)).empty()) REQUIRE(++heard <= limits.messages_burst);
  CHECK(heard == limits.messages_burst);
  const auto backoff = sent<message::Backoff>(effects, 1);
  REQUIRE(backoff.size() == 1);
  CHECK(backoff[0].reason == Reason::overloaded);
  // Half of 400 messages at 20 a second.
  CHECK(backoff[0].retry_after_ms == 10'000);
  CHECK(complaints(effects).at(0).reason == "overloaded");
  CHECK(complaints(effects).at(0).level == effect::Level::warning);
  CHECK(bench.state.fleet.find(node_id(1))->session == 0);

  SECTION("what it said after that is passed over in silence") {
    for (int i = 0; i < 1000; ++i) REQUIRE(bench.give(message.second).empty());
  }
  SECTION("a new session does not help it, patience does") {
    const event::HelloReceived hello{9, node_id(1), message::Hello{1, 1, test_fleet(), "t"}};
    const auto refused = bench.give(hello);
    CHECK(all_of<effect::SendWelcome>(refused).empty());
    CHECK(sent<message::Backoff>(refused, 9).size() == 1);
    bench.pass(10s);
    CHECK(all_of<effect::SendWelcome>(bench.give(hello)).size() == 1);
    CHECK(bench.state.fleet.find(node_id(1))->session == 9);
  }
  SECTION("others notice nothing") {
    CHECK(all_of<effect::FetchUpdate>(bench.offer(2, bench.header_of(2))).size() == 1);
  }
}

TEST_CASE("a node that comes back again and again with a full outbox is always heard",
          "[coordinator][limits]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  // Every second, which is the shortest wait of a node, and with more than one ever holds.
  for (SessionId session = 100; session < 400; ++session) {
    CAPTURE(session);
    bench.pass(1s);
    REQUIRE(complaints(bench.connect(1, 100, 50, session)).empty());
    for (int i = 0; i < 16; ++i) {
      REQUIRE(complaints(bench.give(event::EvaluationReceived{session, {}})).empty());
    }
    REQUIRE(complaints(bench.give(event::ActivationReceived{session, {}})).empty());
    REQUIRE(complaints(bench.give(event::TelemetryReceived{session, {}})).empty());
  }
}

TEST_CASE("many verdicts that nobody knows are one line in the log", "[coordinator][limits]") {
  Bench bench;
  bench.fleet(1);
  message::Ready ready{0, 0, 100, 50, {}, {}};
  for (unsigned i = 0; i < 256; ++i) {
    TaskId task;
    task.bytes[0] = static_cast<std::byte>(i);
    task.bytes[1] = std::byte{1};
    ready.awaiting_verdict.push_back(task);
  }
  const auto effects = bench.give(event::ReadyReceived{1, ready});
  CHECK(sent<message::Verdicts>(effects, 1).at(0).entries.size() == 256);
  const auto notices = all_of<effect::Notice>(effects);
  REQUIRE(notices.size() == 1);
  CHECK(notices[0].event == "verdict_unknown");
  CHECK(notices[0].fields.back() == std::pair<std::string, std::string>{"tasks", "256"});
}

}  // namespace rivulet::coordinator::testing
