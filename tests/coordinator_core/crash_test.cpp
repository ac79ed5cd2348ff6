#include "tests/catch.h"
#include "tests/coordinator_core/world.h"

namespace rivulet::coordinator::testing {
namespace {

/// The fault that a run met, or nothing.
std::string fault_of(const WorldPlan& plan, std::size_t* steps = nullptr) {
  World world(plan);
  try {
    world.run();
  } catch (const std::exception& error) {
    return error.what();
  }
  if (steps != nullptr) *steps = world.steps();
  return "";
}

}  // namespace

TEST_CASE("a crash after any step loses no promise and counts nothing twice", "[coordinator][crash]") {
  WorldPlan plan;
  plan.batch = GENERATE(1u, 3u, 8u);
  const int kind = GENERATE(0, 1, 2);
  if (kind == 1) plan.revoke_at = 33;
  if (kind == 2) plan.refused_round = 1;
  plan.retrained = kind == 1;
  CAPTURE(plan.batch, kind);
  std::size_t steps = 0;
  REQUIRE(fault_of(plan, &steps) == "");
  REQUIRE(steps > 50);
  for (std::size_t at = 1; at <= steps; ++at) {
    plan.crashes = {at};
    plan.seed = at;
    CAPTURE(at);
    REQUIRE(fault_of(plan) == "");
  }
}

TEST_CASE("many crashes in one run lose no promise", "[coordinator][crash]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 40));
  CAPTURE(seed);
  Rng rng(seed);
  WorldPlan plan;
  plan.seed = seed;
  plan.rounds = 3;
  plan.shuffled = true;
  plan.retrained = seed % 2 == 0;
  plan.batch = 1 + uniform_below(rng, 6);
  plan.refused_round = uniform_below(rng, 4);
  if (seed % 3 == 0) plan.revoke_at = 20 + uniform_below(rng, 100);
  for (std::size_t step = 1; step < 400; ++step) {
    if (uniform_below(rng, 25) == 0) plan.crashes.insert(step);
  }
  REQUIRE(fault_of(plan) == "");
}

TEST_CASE("a store that forgets an accepted update is caught", "[coordinator][crash]") {
  WorldPlan plan;
  plan.fault = WorldPlan::Fault::forgets_update;
  std::size_t caught = 0;
  for (std::size_t at = 20; at <= 60; ++at) {
    plan.crashes = {at};
    if (!fault_of(plan).empty()) ++caught;
  }
  REQUIRE(caught > 0);
}

TEST_CASE("a retry that is counted twice is caught", "[coordinator][crash]") {
  WorldPlan plan;
  plan.fault = WorldPlan::Fault::counts_twice;
  std::size_t caught = 0;
  for (std::size_t at = 20; at <= 60; ++at) {
    plan.crashes = {at};
    if (!fault_of(plan).empty()) ++caught;
  }
  REQUIRE(caught > 0);
}

TEST_CASE("the same seed gives the same records", "[coordinator]") {
  WorldPlan plan;
  plan.shuffled = true;
  plan.crashes = {30, 70};
  World one(plan);
  World two(plan);
  one.run();
  two.run();
  REQUIRE(one.records() == two.records());
  plan.seed = 2;
  World other(plan);
  other.run();
  REQUIRE(other.records() != one.records());
}

}  // namespace rivulet::coordinator::testing
