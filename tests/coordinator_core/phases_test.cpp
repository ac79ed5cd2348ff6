#include <cmath>
#include <set>

#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {

TEST_CASE("one round, from the draw to the version", "[coordinator][rounds]") {
  Bench bench;
  bench.fleet(4);
  REQUIRE(bench.state.registry.head == 1);
  const auto tasks = sent<message::Task>(bench.start());
  REQUIRE(tasks.size() == 4);
  REQUIRE(tasks[0].round == 1);
  REQUIRE(decode_version(tasks[0].base.payload)->version == 1);
  REQUIRE(bench.records["tasks"].size() == 4);
  std::vector<TaskId> ids;
  for (unsigned n = 1; n <= 4; ++n) ids.push_back(bench.task_of(n));

  for (unsigned n = 1; n <= 3; ++n) {
    const auto receipts = sent<message::Receipt>(bench.upload(n), n);
    REQUIRE(receipts.at(0) ==
            message::Receipt{ids[n - 1], message::ReceiptOutcome::accepted, Reason::none, ""});
    REQUIRE(bench.records["updates"].size() == n);
  }
  auto effects = bench.upload(4);
  const auto aggregate = all_of<effect::Aggregate>(effects).at(0);
  REQUIRE(aggregate.entries.size() == 4);
  REQUIRE(std::ranges::is_sorted(aggregate.entries, {}, &SealedEntry::task));
  REQUIRE(aggregate.parent == 1);
  REQUIRE(aggregate.parent_master == bench.state.registry.find(1)->master);
  REQUIRE(bench.records["tasks"].empty());

  effects = bench.aggregated(aggregate);
  const auto evaluations = sent<message::Task>(effects);
  REQUIRE(evaluations.size() == 4);  // A fleet of 4 is too small to keep evaluators apart.
  REQUIRE(evaluations[0].type == message::TaskType::evaluate);
  REQUIRE(decode_candidate(evaluations[0].candidate.payload)->parent == 1);
  for (unsigned n = 1; n <= 3; ++n) bench.report(n, 0, 1);
  effects = bench.report(4, 1, 0);
  const auto manifest = all_of<effect::SealVersion>(effects).at(0).manifest;
  REQUIRE(manifest.version == 2);
  REQUIRE(manifest.manifest_version == 2);
  REQUIRE(manifest.parent == 1);
  REQUIRE(manifest.round == 1);
  REQUIRE(manifest.fallback->version == 1);
  REQUIRE(manifest.fallback->weights_hash == bench.state.registry.find(1)->manifest.weights_hash);
  REQUIRE(manifest.audit_head == bench.state.audit.hash);
  REQUIRE(bench.state.registry.head == 1);

  effects = bench.sealed({manifest});
  REQUIRE(sent<message::Assignment>(effects).size() == 4);
  REQUIRE(sent<message::Verdicts>(effects).size() == 4);
  REQUIRE(all_of<effect::EraseContent>(effects).size() == 4);
  for (const TaskId& id : ids) {
    REQUIRE(bench.verdict_of(id)->outcome == message::VerdictOutcome::aggregated);
    REQUIRE(bench.verdict_of(id)->version == 2);
  }
  REQUIRE(bench.records["updates"].empty());
  REQUIRE(bench.state.registry.head == 2);
  REQUIRE(bench.state.registry.assigned == 2);
  const auto version = parse_record<VersionRecord>(bench.records["versions"].at(number_key(2)));
  REQUIRE(version->updates.size() == 4);
  REQUIRE(version->updates[0].weight == 10);
  const RoundSummary& summary = bench.state.rounds.back();
  REQUIRE(summary.state == "published");
  REQUIRE(summary.version == 2);
  REQUIRE(summary.accepted == 4);
  REQUIRE(summary.upload_bytes == 4 * (8 + 4 + 6 * 4));  // fp32: entries u64, one length u32, 6 floats.
  REQUIRE(bench.in<Idle>());
  REQUIRE_FALSE(verify_audit(audit_of(bench.records)));
}

TEST_CASE("training ends at the goal, and tells those who are too late", "[coordinator][rounds]") {
  Config config = test_config();
  config.round.cohort = 2;
  config.round.over_selection = 2.0;
  Bench bench(config);
  bench.fleet(4);
  bench.start();
  REQUIRE(bench.state.round.summary.invited == 4);
  bench.upload(1);
  const UpdateHeader late = bench.header_of(3);
  bench.offer(3, late);
  const auto effects = bench.upload(2);
  REQUIRE(bench.in<Aggregating>());
  std::set<SessionId> told;
  for (const effect::Send& send : all_of<effect::Send>(effects)) {
    if (std::holds_alternative<message::TaskCancelled>(send.message)) told.insert(send.session);
  }
  REQUIRE(told == std::set<SessionId>{3, 4});
  // Also of node 4, whose content may have come in part before its connection broke.
  REQUIRE(all_of<effect::DropFetch>(effects).size() == 2);
  // Its bytes arrive all the same: nothing refers to them.
  const auto after = bench.give(event::UpdateStored{late.task, late.content, {1.0}});
  REQUIRE(all_of<effect::EraseContent>(after).at(0).content == late.content);
  REQUIRE(bench.state.round.summary.accepted == 2);
}

TEST_CASE("training ends at the deadline with enough updates, or fails", "[coordinator][rounds]") {
  Bench bench;
  bench.fleet(4);
  bench.start();
  const TaskId first = bench.task_of(1);
  bench.upload(1);
  SECTION("enough") {
    bench.upload(2);
    bench.pass(599s);
    REQUIRE(bench.in<Training>());
    const auto effects = bench.pass(1s);
    REQUIRE(all_of<effect::Aggregate>(effects).at(0).entries.size() == 2);
  }
  SECTION("too few") {
    const auto effects = bench.pass(600s);
    REQUIRE(bench.state.rounds.back().state == "failed");
    REQUIRE(bench.verdict_of(first)->reason == Reason::round_failed);
    REQUIRE(sent<message::Verdicts>(effects, 1).at(0).entries.at(0).reason == Reason::round_failed);
    REQUIRE(bench.records["tasks"].empty());
    REQUIRE(bench.state.registry.head == 1);
  }
}

TEST_CASE("what was accepted beyond the goal gets its verdict", "[coordinator][rounds]") {
  Config config = test_config();
  config.round.cohort = 2;
  config.round.over_selection = 2.0;
  Bench bench(config);
  bench.fleet(4);
  bench.start();
  std::vector<UpdateHeader> headers;
  for (unsigned n = 1; n <= 4; ++n) {
    headers.push_back(bench.header_of(n));
    bench.offer(n, headers.back());
  }
  bench.give(event::StorageState{true, false});
  for (const unsigned n : {3u, 1u, 4u})
    bench.give(event::UpdateStored{headers[n - 1].task, headers[n - 1].content, {1.0}});
  bench.give(event::StorageState{false, false});
  REQUIRE(bench.in<Aggregating>());
  // The first two that were accepted count.
  REQUIRE_FALSE(bench.verdict_of(headers[2].task));
  REQUIRE_FALSE(bench.verdict_of(headers[0].task));
  REQUIRE(bench.verdict_of(headers[3].task)->reason == Reason::over_goal);
}

TEST_CASE("an aggregation that fails fails the round, a full disk only delays it", "[coordinator][rounds]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const TaskId task = bench.task_of(1);
  bench.upload(1);
  const auto question = all_of<effect::Aggregate>(bench.upload(2)).at(0);
  SECTION("full") {
    REQUIRE(
        all_of<effect::Aggregate>(bench.give(event::AggregationFailed{1, 0, {Errc::storage_full, "full"}}))
            .empty());
    REQUIRE(all_of<effect::Aggregate>(bench.pass(1s)).empty());
    REQUIRE(all_of<effect::Aggregate>(bench.give(event::StorageState{false, false})).size() == 1);
  }
  SECTION("anything else") {
    bench.give(event::AggregationFailed{1, 0, {Errc::corrupt, "update 3 is damaged"}});
    REQUIRE(bench.state.rounds.back().reason == "aggregation: update 3 is damaged");
    REQUIRE(bench.verdict_of(task)->reason == Reason::round_failed);
    REQUIRE(bench.state.schedule.refusals == 0);
  }
  SECTION("an answer to another question") {
    bench.give(event::AggregationFailed{1, 1, {Errc::corrupt, "old"}});
    bench.give(event::AggregationFailed{2, 0, {Errc::corrupt, "old"}});
    REQUIRE(bench.in<Aggregating>());
  }
}

TEST_CASE("a candidate too far from the first weights is refused", "[coordinator][rounds]") {
  Bench bench;
  bench.fleet(2);
  bench.start();
  const TaskId task = bench.task_of(1);
  bench.upload(1);
  const auto question = all_of<effect::Aggregate>(bench.upload(2)).at(0);
  SECTION("beyond the limit") {
    const auto effects = bench.aggregated(question, 100.001);
    REQUIRE(bench.state.rounds.back().state == "refused");
    REQUIRE(bench.verdict_of(task)->reason == Reason::candidate_refused);
    REQUIRE(all_of<effect::EraseContent>(effects).size() == 4);  // Two updates, snapshot and master.
    REQUIRE(bench.state.schedule.refusals == 1);
  }
  SECTION("not a number") {
    bench.aggregated(question, std::numeric_limits<double>::quiet_NaN());
    REQUIRE(bench.state.rounds.back().state == "refused");
  }
  SECTION("at the limit") {
    bench.aggregated(question, 100.0);
    REQUIRE(bench.in<Gating>());
  }
}

TEST_CASE("evaluators are drawn apart from trainers, unless the fleet is small", "[coordinator][gate]") {
  const unsigned count = GENERATE(19u, 20u);
  Bench bench;
  bench.fleet(count);
  bench.start();
  std::set<PublicKey> trainers;
  for (const auto& [key, node] : bench.state.fleet.nodes) {
    if (node.task) trainers.insert(key);
  }
  REQUIRE(trainers.size() == 4);
  for (const auto& [key, node] : bench.state.fleet.nodes) {
    if (node.ready && !trainers.contains(key)) bench.state.fleet.find(key)->holdout_samples = 0;
  }
  bench.up_to_gating();
  std::set<PublicKey> evaluators;
  for (const auto& [task, record] : std::get<Gating>(bench.state.round.phase).evaluators)
    evaluators.insert(record.node);
  if (count == 19) REQUIRE(evaluators == trainers);
  if (count == 20) REQUIRE(evaluators.empty());
  // A node that gets a holdout while the gate is open is asked too.
  const auto other = std::ranges::find_if(bench.state.fleet.nodes,
                                          [&](const auto& at) { return !trainers.contains(at.first); });
  const SessionId session = other->second.session;
  const auto effects = bench.give(event::TelemetryReceived{session, message::Telemetry{1, 100, 50, 0, 0}});
  REQUIRE(sent<message::Task>(effects, session).size() == (count == 20 ? 1 : 0));
}

TEST_CASE("members that are away do not keep those who are here from judging what they trained",
          "[coordinator][gate]") {
  Bench bench;
  bench.import();
  for (unsigned n = 1; n <= 25; ++n) bench.enrol(n);
  for (unsigned n = 1; n <= 4; ++n) bench.connect(n);
  bench.start();
  bench.up_to_gating();
  const auto evaluators = [&] { return std::get<Gating>(bench.state.round.phase).evaluators.size(); };
  REQUIRE(evaluators() == 4);
  SECTION("who comes back is asked, though it trained") {
    const TaskId task = bench.task_of(1);
    bench.restart();
    bench.connect(1);
    REQUIRE(bench.task_of(1) == task);
  }
  SECTION("and the round publishes") {
    std::vector<Effect> effects;
    for (unsigned n = 1; n <= 4; ++n) effects = bench.report(n, 0, 0);
    REQUIRE(all_of<effect::SealVersion>(effects).size() == 1);
  }
}

TEST_CASE("reports are verified before they count", "[coordinator][gate]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  bench.up_to_gating();
  const EvaluationReport right = report_for(bench.state, node_id(1), bench.task_of(1), 0, 0, 100);
  const auto answer = [&](const EvaluationReport& report, unsigned signer = 1,
                          Context context = Context::evaluation) {
    return sent<message::Receipt>(bench.give(event::EvaluationReceived{
                                      1, rivulet::seal(node_key(signer), context, encode(report))}))
        .at(0);
  };
  REQUIRE(answer(right, 2).reason == Reason::bad_signature);
  REQUIRE(answer(right, 1, Context::update).reason == Reason::bad_signature);
  EvaluationReport report = right;
  report.fleet = FleetId{};
  REQUIRE(answer(report).reason == Reason::wrong_fleet);
  report = right;
  report.node = node_id(2);
  REQUIRE(answer(report).reason == Reason::bad_signature);
  report = right;
  report.task = bench.task_of(2);
  REQUIRE(answer(report).reason == Reason::not_your_task);
  report.task = TaskId{};
  REQUIRE(answer(report).reason == Reason::unknown_task);
  report = right;
  report.parent_hash.bytes[0] ^= std::byte{1};
  REQUIRE(answer(report).reason == Reason::stale_base);
  report = right;
  report.candidate_hash.bytes[0] ^= std::byte{1};
  REQUIRE(answer(report).reason == Reason::stale_base);
  report = right;
  report.both_right = 0;
  REQUIRE(answer(report).reason == Reason::bad_report);
  report.both_right = std::uint64_t{1} << 63;  // Counts that would wrap around to 0.
  report.both_wrong = std::uint64_t{1} << 63;
  REQUIRE(answer(report).reason == Reason::bad_report);
  REQUIRE(std::get<Gating>(bench.state.round.phase).reports == 0);

  REQUIRE(answer(right).outcome == message::ReceiptOutcome::accepted);
  REQUIRE(answer(right).outcome == message::ReceiptOutcome::accepted);
  report = right;
  report.candidate_only = 5;
  REQUIRE(answer(report).outcome == message::ReceiptOutcome::duplicate);
  REQUIRE(std::get<Gating>(bench.state.round.phase).reports == 1);
}

TEST_CASE("a gate without enough reports publishes nothing", "[coordinator][gate]") {
  Bench bench;
  bench.fleet(3);
  bench.start();
  const TaskId task = bench.task_of(1);
  bench.up_to_gating();
  bench.report(1, 0, 0);
  bench.pass(599s);
  REQUIRE(bench.in<Gating>());
  bench.pass(1s);
  REQUIRE(bench.state.rounds.back().state == "failed");
  REQUIRE(bench.verdict_of(task)->reason == Reason::round_failed);
  REQUIRE(bench.state.schedule.refusals == 0);
  REQUIRE(bench.state.registry.head == 1);
}

TEST_CASE("the central holdout is scored once and gates by the mode", "[coordinator][gate]") {
  Config config = test_config();
  config.validation.mode = ValidationMode::central;
  Bench bench(config);
  bench.import(test_release(), true, true);
  for (unsigned n = 1; n <= 2; ++n) bench.enrol(n);
  for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
  bench.start();
  const auto effects = bench.up_to_gating();
  REQUIRE(sent<message::Task>(effects).empty());
  const auto question = all_of<effect::ScoreCandidate>(effects).at(0);
  REQUIRE(question.parent_snapshot == bench.state.registry.find(1)->manifest.snapshot);
  REQUIRE(all_of<effect::ScoreCandidate>(bench.pass(1s)).empty());
  bench.give(event::CandidateScored{1, 1, Metrics{1, 0, 9}, Metrics{0, 0, 9}, {}});  // Another attempt's.
  REQUIRE(bench.in<Gating>());
  const double accuracy = GENERATE(0.89, 0.87);
  const auto after = bench.give(
      event::CandidateScored{1, 0, Metrics{0.895, 1, 100}, Metrics{accuracy, 1, 100}, Metrics{0.5, 2, 300}});
  REQUIRE(all_of<effect::SealVersion>(after).size() == (accuracy > 0.88 ? 1 : 0));
  REQUIRE(bench.state.round.summary.metrics == Metrics{0.5, 2, 300});
}

TEST_CASE("a loss that is not finite refuses the candidate, and three of them stop the schedule",
          "[coordinator][gate]") {
  Config config = test_config();
  config.validation.mode = ValidationMode::central;
  Bench bench(config);
  bench.import(test_release(), true, false);
  for (unsigned n = 1; n <= 2; ++n) bench.enrol(n);
  for (unsigned n = 1; n <= 2; ++n) bench.connect(n);
  bench.start(5);
  for (RoundNumber round = 1; round <= 3; ++round) {
    const TaskId task = bench.task_of(1);
    bench.up_to_gating();
    bench.give(event::CandidateScored{round, 0, Metrics{0.9, 1, 100}, Metrics{0.9, NAN, 100}, {}});
    REQUIRE(bench.state.rounds.back().state == "refused");
    REQUIRE(bench.verdict_of(task)->reason == Reason::candidate_refused);
    bench.pass(1s);
  }
  REQUIRE(bench.state.schedule.refusals == 3);
  REQUIRE_FALSE(bench.state.schedule.stopped.empty());
  REQUIRE(bench.state.registry.head == 1);
  bench.restart();
  REQUIRE(std::isnan(bench.state.rounds.back().metrics->loss));
}

TEST_CASE("a task that is offered one content after the other is listened to four times",
          "[coordinator][rounds]") {
  Bench bench;
  bench.fleet(4);
  bench.start();
  for (const char* delta : {"a", "b", "c", "d", "a", "d"}) {
    const auto fetch = all_of<effect::FetchUpdate>(bench.offer(1, bench.header_of(1, delta)));
    REQUIRE(fetch.size() == 1);
    REQUIRE(fetch[0].content == bench.header_of(1, delta).content);
  }
  const auto effects = bench.offer(1, bench.header_of(1, "e"));
  REQUIRE(all_of<effect::FetchUpdate>(effects).empty());
  REQUIRE(sent<message::Receipt>(effects).at(0).outcome == message::ReceiptOutcome::duplicate);
  const UpdateHeader last = bench.header_of(1, "d");
  bench.give(event::UpdateStored{last.task, last.content, {1}});
  REQUIRE(bench.state.round.summary.accepted == 1);
}

}  // namespace rivulet::coordinator::testing
