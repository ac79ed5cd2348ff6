#include "coordinator/core/gate.h"

#include <limits>
#include <vector>

#include "tests/catch.h"

namespace rivulet::coordinator {
namespace {

PairedCounts counts(std::uint64_t both, std::uint64_t parent, std::uint64_t candidate,
                    std::uint64_t wrong = 0) {
  return {both, parent, candidate, wrong, 1.0, 1.0};
}

ValidationConfig config_of(ValidationMode mode) {
  ValidationConfig config;
  config.mode = mode;
  config.evaluators_min = 2;
  config.holdout_min = 50;
  config.tolerance = 0.01;
  return config;
}

GateOutcome federated(const std::vector<PairedCounts>& reports) {
  return decide({reports, false, {}, {}, {}}, config_of(ValidationMode::federated)).outcome;
}

}  // namespace

TEST_CASE("the paired fall is the weighted mean of each node's", "[coordinator][gate]") {
  // 100 samples with a fall of 10/100, 200 with one of -5/200: (100 * 0.1 - 200 * 0.025) / 300 = 1/60.
  const std::vector reports{counts(90, 10, 0), counts(195, 0, 5)};
  const FederatedResult result = combine(reports, config_of(ValidationMode::federated));
  REQUIRE(result.nodes == 2);
  REQUIRE(result.samples == Approx(300));
  REQUIRE(result.fall == Approx(1.0 / 60));
  // The candidate has 90 + 200 of 300 right.
  REQUIRE(result.candidate.accuracy == Approx(290.0 / 300));
}

TEST_CASE("a node weighs no more than four times the median", "[coordinator][gate]") {
  // Counts 10, 10, 10000: the median is 10, so the liar weighs 40 of 60. Its fall is 0.3, the others' 0.
  const std::vector reports{counts(10, 0, 0), counts(10, 0, 0), counts(7000, 3000, 0)};
  const FederatedResult result = combine(reports, config_of(ValidationMode::federated));
  REQUIRE(result.samples == Approx(60));
  REQUIRE(result.fall == Approx(0.3 * 40 / 60));
}

TEST_CASE("a fall of exactly the tolerance passes, more does not", "[coordinator][gate]") {
  REQUIRE(federated({counts(99, 1, 0), counts(99, 1, 0)}) == GateOutcome::publish);
  REQUIRE(federated({counts(98, 2, 0), counts(99, 1, 0)}) == GateOutcome::refuse);
  REQUIRE(federated({counts(0, 50, 50), counts(100, 0, 0)}) == GateOutcome::publish);
}

TEST_CASE("too few nodes or samples publish nothing", "[coordinator][gate]") {
  REQUIRE(federated({}) == GateOutcome::too_few);
  REQUIRE(federated({counts(1000, 0, 0)}) == GateOutcome::too_few);
  REQUIRE(federated({counts(24, 0, 0), counts(25, 0, 0)}) == GateOutcome::too_few);
  REQUIRE(federated({counts(25, 0, 0), counts(25, 0, 0)}) == GateOutcome::publish);
}

TEST_CASE("one node's infinite loss decides nothing, most nodes' does", "[coordinator][gate]") {
  auto lying = counts(100, 0, 0);
  lying.candidate_loss_sum = std::numeric_limits<double>::infinity();
  REQUIRE(federated({lying, counts(100, 0, 0), counts(100, 0, 0)}) == GateOutcome::publish);
  REQUIRE(federated({lying, lying, counts(100, 0, 0)}) == GateOutcome::refuse);
}

TEST_CASE("each mode looks at its own evidence", "[coordinator][gate]") {
  const std::vector good{counts(100, 0, 0), counts(100, 0, 0)};
  const std::vector bad{counts(50, 50, 0), counts(50, 50, 0)};
  const Metrics parent{0.90, 1.0, 100};
  const Metrics same{0.90, 1.0, 100};
  const Metrics worse{0.88, 1.0, 100};
  struct Row {
    ValidationMode mode;
    bool has_holdout;
    bool nodes_good;
    std::optional<Metrics> central;
    GateOutcome outcome;
  };
  using enum GateOutcome;
  using enum ValidationMode;
  const Row row = GENERATE_COPY(values<Row>({
      {none, false, false, {}, publish},
      {federated, true, true, worse, publish},
      {federated, true, false, same, refuse},
      {central, true, false, same, publish},
      {central, true, true, worse, refuse},
      {central, true, true, {}, too_few},
      {central, false, true, {}, too_few},
      {both, true, true, same, publish},
      {both, true, true, worse, refuse},
      {both, true, false, same, refuse},
      {both, true, true, {}, too_few},
      {both, true, false, {}, refuse},
      {both, false, true, {}, publish},  // Without a central holdout the nodes alone decide.
      {both, false, false, {}, refuse},
  }));
  CAPTURE(name(row.mode), row.has_holdout, row.nodes_good, row.central.has_value());
  GateEvidence evidence{row.nodes_good ? good : bad, row.has_holdout, {}, row.central, {}};
  if (row.central) evidence.parent_central = parent;
  const GateDecision decision = decide(evidence, config_of(row.mode));
  REQUIRE(decision.outcome == row.outcome);
  REQUIRE_FALSE(decision.why.empty());
}

TEST_CASE("the loss gates a model that answers values", "[coordinator][gate]") {
  const auto report = [](double parent, double candidate) {
    return PairedCounts{0, 0, 0, 100, 100 * parent, 100 * candidate};  // Nothing is right or wrong.
  };
  const auto judged = [](const std::vector<PairedCounts>& reports, TaskKind task = TaskKind::regression) {
    return decide({reports, false, {}, {}, {}, task}, config_of(ValidationMode::federated)).outcome;
  };
  CHECK(judged({report(2, 2.0199), report(2, 2.0199)}) == GateOutcome::publish);
  CHECK(judged({report(2, 2.0201), report(2, 2.0201)}) == GateOutcome::refuse);
  CHECK(judged({report(2, 2.0201), report(2, 2.0201)}, TaskKind::anomaly) == GateOutcome::refuse);
  CHECK(judged({report(2, 1), report(2, 2.5)}) == GateOutcome::publish);  // -0.5 and +0.25.
  CHECK(judged({report(0, 0), report(0, 0)}) == GateOutcome::publish);
  CHECK(judged({report(0, 1e-9), report(0, 1e-9)}) == GateOutcome::refuse);
  // A loss that is a lie counts as one that doubles, whatever its size: two that halve it outweigh it.
  CHECK(judged({report(1, 1e30), report(1, 0.4), report(1, 0.4)}) == GateOutcome::publish);
  const FederatedResult result = combine(std::vector{report(2, 3), report(4, 3)},
                                         config_of(ValidationMode::federated), TaskKind::regression);
  CHECK(result.fall == Approx((0.5 - 0.25) / 2));

  const auto central = [](double candidate) {
    return decide({{}, true, Metrics{0, 2, 100}, Metrics{0, candidate, 100}, {}, TaskKind::anomaly},
                  config_of(ValidationMode::central));
  };
  CHECK(central(2.0199).outcome == GateOutcome::publish);
  CHECK(central(2.0201).outcome == GateOutcome::refuse);
  CHECK(central(2.5).why == "the loss on the central holdout grows from 2 to 2.5, by more than 0.0100 of it");
}

TEST_CASE("the test split is reported and never gates", "[coordinator][gate]") {
  const std::vector good{counts(100, 0, 0), counts(100, 0, 0)};
  const Metrics test{0.1, 9.0, 500};
  const GateDecision decision =
      decide({good, true, Metrics{0.9, 1, 100}, Metrics{0.9, 1, 100}, test}, config_of(ValidationMode::both));
  REQUIRE(decision.outcome == GateOutcome::publish);
  REQUIRE(decision.metrics == test);
}

TEST_CASE("a central accuracy that is not a number does not pass", "[coordinator][gate]") {
  const Metrics odd{std::numeric_limits<double>::quiet_NaN(), 1.0, 100};
  REQUIRE(decide({{}, true, Metrics{0.9, 1, 100}, odd, {}}, config_of(ValidationMode::central)).outcome ==
          GateOutcome::refuse);
}

}  // namespace rivulet::coordinator
