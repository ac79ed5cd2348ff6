#include "sim/world/world.h"

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/catch.h"

using namespace rivulet::sim;

namespace {

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct Tally {
  std::map<std::string, std::uint64_t> fired;
  std::map<std::string, std::uint64_t> crashed;
  std::uint64_t versions = 0;
  std::uint64_t updates = 0;
  std::vector<std::pair<std::uint64_t, std::string>> failures;

  void add(std::uint64_t seed, const WorldReport& report) {
    for (const auto& [name, count] : report.fired) fired[name] += count;
    for (const auto& [name, count] : report.crashed) crashed[name] += count;
    versions += report.versions;
    updates += report.updates;
    if (!report.violations.empty()) failures.emplace_back(seed, report.violations.front());
  }
};

/// Worlds are independent of each other, so two threads run them side by side.
Tally run_worlds(std::uint64_t first, std::uint64_t count, SeededBug bug, std::uint64_t failures_max) {
  Tally tally;
  std::mutex mutex;
  std::atomic<std::uint64_t> next{0};
  const auto work = [&] {
    for (std::uint64_t i = next++; i < count; i = next++) {
      const WorldReport report = run_world({.seed = first + i, .nodes = 10, .bug = bug});
      const std::scoped_lock lock(mutex);
      tally.add(first + i, report);
      if (tally.failures.size() >= failures_max) next = count;
    }
  };
  {
    std::jthread other(work);
    work();
  }
  return tally;
}

void print(const char* title, const std::map<std::string, std::uint64_t>& counts) {
  std::cout << title << "\n";
  for (const auto& [name, count] : counts) std::cout << "  " << name << ": " << count << "\n";
}

}  // namespace

TEST_CASE("whatever fails, no acknowledged update is lost and none counts twice", "[world]") {
  const std::uint64_t first = number_from("RIVULET_SEED", 1);
  const bool replay = std::getenv("RIVULET_SEED") != nullptr;
  const std::uint64_t count =
      replay ? 1 : number_from("RIVULET_SEEDS", std::getenv("RIVULET_TEST_LONG") ? 20000 : 2000);
  const Tally tally = run_worlds(first, count, SeededBug::none, 5);
  print("faults fired", tally.fired);
  print("crashes at durable steps", tally.crashed);
  std::cout << "seeds " << count << ", versions " << tally.versions << ", accepted updates " << tally.updates
            << "\n";
  for (const auto& [seed, violation] : tally.failures) {
    std::cout << "seed " << seed << ": " << violation << "\n  replay: RIVULET_SEED=" << seed
              << " build/dev/tests/world_test '[world]'\n";
  }
  CHECK(tally.failures.empty());
  if (count < 2000) return;  // Too few seeds to ask that everything happened.
  for (const auto& [name, times] : tally.fired) {
    CAPTURE(name);
    CHECK(times > 0);
  }
  for (const auto& [name, times] : tally.crashed) {
    CAPTURE(name);
    CHECK(times > 0);
  }
}

TEST_CASE("the same seed lives the same life", "[world][replay]") {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const WorldReport once = run_world({.seed = seed});
    const WorldReport again = run_world({.seed = seed});
    CHECK(once.digest == again.digest);
    CHECK(once.actions == again.actions);
    CHECK(once.fired == again.fired);
  }
  CHECK(run_world({.seed = 1}).digest != run_world({.seed = 2}).digest);
}

TEST_CASE("each bug that was put in on purpose is caught within 200 seeds", "[world][bugs]") {
  const auto bug = GENERATE(SeededBug::lying_disk, SeededBug::forgotten_update, SeededBug::double_count);
  CAPTURE(static_cast<int>(bug));
  const Tally tally = run_worlds(1, 200, bug, 1);
  REQUIRE_FALSE(tally.failures.empty());
  std::cout << "bug " << static_cast<int>(bug) << " caught by seed " << tally.failures[0].first << ": "
            << tally.failures[0].second << "\n";
}
