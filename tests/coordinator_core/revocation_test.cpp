#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

std::vector<Effect> revoke(Bench& bench, unsigned n) {
  return bench.give(event::RevokeNode{++bench.last_request, node_id(n)});
}

bool holds(const std::vector<SealedEntry>& entries, const TaskId& task) {
  return std::ranges::find(entries, task, &SealedEntry::task) != entries.end();
}

}  // namespace

TEST_CASE("a node revoked while it trains is cut off and not waited for", "[coordinator][revocation]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  bench.upload(2);
  const auto effects = revoke(bench, 1);
  REQUIRE(all_of<effect::Close>(effects).at(0).session == 1);
  REQUIRE(all_of<effect::Close>(effects).at(0).reason == Reason::revoked);
  REQUIRE(bench.records["tasks"].size() == 2);
  bench.upload(3);
  REQUIRE(bench.in<Aggregating>());
}

TEST_CASE("an update accepted before its node was revoked is excluded", "[coordinator][revocation]") {
  Bench bench;
  bench.fleet(4);
  bench.start();
  const TaskId task = bench.task_of(1);
  const ContentId bytes = bench.header_of(1).content;
  bench.upload(1);
  const auto effects = revoke(bench, 1);
  REQUIRE(bench.verdict_of(task)->reason == Reason::node_revoked);
  REQUIRE(all_of<effect::EraseContent>(effects).at(0).content == bytes);
  REQUIRE(bench.records["updates"].empty());
  bench.upload(2);
  bench.upload(3);
  const auto aggregate = all_of<effect::Aggregate>(bench.upload(4)).at(0);
  REQUIRE(aggregate.entries.size() == 3);
  REQUIRE_FALSE(holds(aggregate.entries, task));
}

TEST_CASE("a revoked node's update leaves a sealed set, in whatever phase", "[coordinator][revocation]") {
  const auto phase = GENERATE(as<std::string>(), "aggregating", "gating", "publishing");
  const bool restarted = GENERATE(false, true);
  CAPTURE(phase, restarted);
  Bench bench;
  bench.fleet(3);
  bench.start();
  const TaskId task = bench.task_of(1);
  const TaskId kept = bench.task_of(2);
  bench.upload(1);
  bench.upload(2);
  const auto first = all_of<effect::Aggregate>(bench.upload(3)).at(0);
  std::vector<Effect> before;
  if (phase != "aggregating") before = bench.aggregated(first);
  if (phase == "publishing") {
    for (unsigned n = 1; n <= 3; ++n) before = bench.report(n, 0, 0);
    REQUIRE(all_of<effect::SealVersion>(before).size() == 1);
  }
  REQUIRE(bench.state.round.summary.state == phase);

  auto effects = revoke(bench, 1);
  if (restarted) {
    effects = bench.restart();
    bench.connect(2);
    bench.connect(3);
  }
  REQUIRE(bench.verdict_of(task)->reason == Reason::node_revoked);
  const auto second = all_of<effect::Aggregate>(effects).at(0);
  REQUIRE(second.attempt == 1);
  REQUIRE(second.entries.size() == 2);
  REQUIRE_FALSE(holds(second.entries, task));
  // What was made with it counts for nothing any more.
  if (phase == "aggregating") bench.aggregated(first);
  if (phase == "publishing") bench.sealed(all_of<effect::SealVersion>(before)[0]);
  REQUIRE(bench.in<Aggregating>());
  REQUIRE(bench.state.registry.head == 1);

  bench.aggregated(second);
  REQUIRE(std::get<Gating>(bench.state.round.phase).evaluators.size() == 2);
  bench.report(2, 0, 0);
  bench.sealed(all_of<effect::SealVersion>(bench.report(3, 0, 0)).at(0));
  REQUIRE(bench.state.registry.head == 2);
  const auto version = parse_record<VersionRecord>(bench.records["versions"].at(number_key(2)));
  REQUIRE(version->updates.size() == 2);
  for (const Contribution& update : version->updates) REQUIRE(update.node != node_id(1));
  REQUIRE(bench.verdict_of(kept)->version == 2);
  REQUIRE(bench.verdict_of(task)->reason == Reason::node_revoked);
}

TEST_CASE("a round fails if a revocation leaves too few updates", "[coordinator][revocation]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const TaskId revoked = bench.task_of(1);
  const TaskId other = bench.task_of(2);
  bench.up_to_gating();
  const auto effects = revoke(bench, 1);
  REQUIRE(all_of<effect::Aggregate>(effects).empty());
  REQUIRE(bench.state.rounds.back().state == "failed");
  REQUIRE(bench.verdict_of(revoked)->reason == Reason::node_revoked);
  REQUIRE(bench.verdict_of(other)->reason == Reason::round_failed);
}

TEST_CASE("a revoked evaluator's report does not count", "[coordinator][revocation]") {
  Bench bench;
  bench.fleet(25);
  bench.start();
  bench.up_to_gating();
  const auto& gating = std::get<Gating>(bench.state.round.phase);
  REQUIRE(gating.evaluators.size() == 4);
  std::vector<unsigned> evaluators;
  for (unsigned n = 1; n <= 25; ++n) {
    if (!bench.task_of(n).is_zero()) evaluators.push_back(n);
  }
  bench.report(evaluators[0], 50, 0);
  bench.report(evaluators[1], 0, 0);
  REQUIRE(gating.reports == 2);
  revoke(bench, evaluators[0]);
  REQUIRE(gating.reports == 1);
  REQUIRE(gating.evaluators.size() == 3);
  bench.report(evaluators[2], 0, 0);
  REQUIRE(all_of<effect::SealVersion>(bench.report(evaluators[3], 0, 0)).size() == 1);
}

TEST_CASE("two nodes that sent the same bytes do not lose each other's", "[coordinator][revocation]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  for (unsigned n = 1; n <= 2; ++n) {
    UpdateHeader header = bench.header_of(n);
    header.content = content("all zeros");
    bench.offer(n, header);
    bench.give(event::UpdateStored{header.task, header.content, {0.0}});
  }
  REQUIRE(all_of<effect::EraseContent>(revoke(bench, 1)).empty());
}

TEST_CASE("a quarantined node keeps its session and what was accepted, and gets no task",
          "[coordinator][revocation]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const TaskId open = bench.task_of(2);
  bench.upload(1);
  bench.give(event::QuarantineNode{1, node_id(1)});
  const auto effects = bench.give(event::QuarantineNode{2, node_id(2)});
  REQUIRE(sent<message::TaskCancelled>(effects, 2).at(0) ==
          message::TaskCancelled{open, Reason::quarantined});
  REQUIRE(all_of<effect::Close>(effects).empty());
  REQUIRE(bench.records["updates"].size() == 1);
  bench.upload(3);
  REQUIRE(std::get<Aggregating>(bench.state.round.phase).sealed.updates.size() == 2);
  bench.give(event::AggregationFailed{1, 0, {Errc::internal, "no"}});
  bench.give(event::ReleaseNode{3, node_id(1)});
  bench.pass(1s);
  bench.start();
  REQUIRE(bench.state.round.summary.invited == 2);
  REQUIRE(bench.task_of(2).is_zero());
  REQUIRE(all_of<effect::Reply>(revoke(bench, 1)).at(0).result.has_value());
  REQUIRE(all_of<effect::Reply>(bench.give(event::ReleaseNode{4, node_id(1)})).at(0).result.error().code ==
          Errc::conflict);
  REQUIRE(all_of<effect::Reply>(revoke(bench, 9)).at(0).result.error().code == Errc::not_found);
}

}  // namespace rivulet::coordinator::testing
