#include <set>

#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

std::vector<PublicKey> pool_of(unsigned count) {
  std::vector<PublicKey> pool(count);
  for (unsigned n = 0; n < count; ++n) pool[n].bytes[0] = static_cast<std::byte>(n);
  return pool;
}

std::set<PublicKey> cohort_of(const std::vector<Effect>& effects, const State& state) {
  std::set<PublicKey> keys;
  for (const effect::Send& send : all_of<effect::Send>(effects)) {
    if (std::holds_alternative<message::Task>(send.message))
      keys.insert(state.fleet.sessions.at(send.session));
  }
  return keys;
}

}  // namespace

TEST_CASE("a draw repeats with its seed, and has nobody twice", "[coordinator][selection]") {
  const auto drawn = draw(pool_of(50), 10, 7);
  REQUIRE(drawn == draw(pool_of(50), 10, 7));
  REQUIRE(drawn != draw(pool_of(50), 10, 8));
  REQUIRE(std::set(drawn.begin(), drawn.end()).size() == 10);
  REQUIRE(draw(pool_of(3), 10, 7).size() == 3);
  REQUIRE(draw({}, 10, 7).empty());
}

TEST_CASE("every node is drawn equally often", "[coordinator][selection]") {
  // 4000 draws of 5 of 20: 1000 each expected, standard deviation sqrt(4000 * 1/4 * 3/4) = 27.4; five of
  // those for each of 20 nodes fails by chance in one of 10^5 runs, and the seeds are fixed anyway.
  std::map<PublicKey, int> often;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    for (const PublicKey& key : draw(pool_of(20), 5, seed)) ++often[key];
  }
  REQUIRE(often.size() == 20);
  for (const auto& [key, times] : often) REQUIRE(std::abs(times - 1000) < 137);
}

TEST_CASE("only eligible nodes are asked", "[coordinator][selection]") {
  Config config = test_config();
  config.round.samples_min = 20;
  Bench bench(config);
  bench.import();
  for (unsigned n = 1; n <= 6; ++n) bench.enrol(n);
  bench.connect(1);
  bench.connect(2, 19);  // Too few samples.
  bench.connect(3);
  bench.connect(4);
  bench.give(event::QuarantineNode{++bench.last_request, node_id(3)});
  bench.give(event::HelloReceived{5, node_id(5), message::Hello{1, 1, test_fleet(), "test"}});  // Not ready.
  const auto effects = bench.start();
  REQUIRE(cohort_of(effects, bench.state) == std::set{node_id(1), node_id(4)});
  REQUIRE(bench.state.round.plan.goal_count == 2);
}

TEST_CASE("a cohort is the same for the same fleet and another in the next round",
          "[coordinator][selection]") {
  Config config = test_config();
  config.round.over_selection = 1.5;
  Bench one(config);
  Bench two(config);
  one.fleet(30);
  two.fleet(30);
  const auto first = cohort_of(one.start(), one.state);
  REQUIRE(first.size() == 6);
  REQUIRE(first == cohort_of(two.start(), two.state));
  for (unsigned n = 1; n <= 30 && one.in<Training>(); ++n) {
    if (!one.task_of(n).is_zero()) one.upload(n);
  }
  one.give(event::AggregationFailed{1, 0, {Errc::internal, "no"}});
  one.pass(1s);
  const auto second = cohort_of(one.start(), one.state);
  REQUIRE(second.size() == 6);
  REQUIRE(second != first);
}

TEST_CASE("a full cohort is waited for, a minimum one only after patience", "[coordinator][selection]") {
  Config config = test_config();
  config.round.selection_patience = 5s;
  Bench bench(config);
  bench.import();
  for (unsigned n = 1; n <= 8; ++n) bench.enrol(n);
  bench.start();
  bench.connect(1);
  bench.connect(2);
  REQUIRE(bench.in<Selecting>());
  REQUIRE(next_deadline(bench.state) == bench.now.monotonic + 5s);
  SECTION("the cohort is full") {
    bench.connect(3);
    REQUIRE(bench.in<Selecting>());
    bench.connect(4);
    REQUIRE(bench.state.round.summary.invited == 4);
  }
  SECTION("patience ends") {
    bench.pass(4999ms);
    REQUIRE(bench.in<Selecting>());
    bench.pass(1ms);
    REQUIRE(bench.in<Training>());
    REQUIRE(bench.state.round.summary.invited == 2);
  }
}

TEST_CASE("a fleet that is all there is not waited for", "[coordinator][selection]") {
  Config config = test_config();
  config.round.selection_patience = 5s;
  Bench bench(config);
  bench.fleet(3);
  bench.start();
  REQUIRE(bench.state.round.summary.invited == 3);
}

TEST_CASE("without a minimum cohort the round fails at the selection deadline", "[coordinator][selection]") {
  Bench bench;
  bench.fleet(1);
  bench.start();
  REQUIRE(bench.in<Selecting>());
  bench.pass(599s);
  REQUIRE(bench.in<Selecting>());
  // After patience the only deadline left is that of the selection: no busy waiting.
  REQUIRE(next_deadline(bench.state) == bench.now.monotonic + 1s);
  bench.pass(1s);
  REQUIRE(bench.state.rounds.back().state == "failed");
  REQUIRE(bench.state.rounds.back().reason.find("1 nodes could train, 2 are needed") != std::string::npos);
}

TEST_CASE("a task's id depends on each of its parts", "[coordinator][selection]") {
  FleetId other = test_fleet();
  other.bytes[0] ^= std::byte{1};
  const std::set ids{task_id(test_fleet(), 1, node_id(1), message::TaskType::train, 0),
                     task_id(other, 1, node_id(1), message::TaskType::train, 0),
                     task_id(test_fleet(), 2, node_id(1), message::TaskType::train, 0),
                     task_id(test_fleet(), 1, node_id(2), message::TaskType::train, 0),
                     task_id(test_fleet(), 1, node_id(1), message::TaskType::evaluate, 0),
                     task_id(test_fleet(), 1, node_id(1), message::TaskType::train, 1)};
  REQUIRE(ids.size() == 6);
}

}  // namespace rivulet::coordinator::testing
