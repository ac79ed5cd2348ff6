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

/// What a few thousand worlds must have seen. The tallies hold only what the code came by: a fault that
/// nothing asks for any more would be missing there without a word.
std::vector<std::string> faults() {
  return {"clock jump",       "coordinator crash", "cut",        "disk error", "disk full",
          "evaluation fails", "half-open link",    "node crash", "stall",      "training fails",
          "replaced session"};
}

std::vector<std::string> durable_steps() {
  std::vector<std::string> steps{"coordinator after aggregation", "coordinator after sealing a version",
                                 "node after activation", "node after evaluation", "node after training"};
  const auto around = [&](const std::string& who, std::initializer_list<const char*> whats) {
    for (const char* what : whats) {
      steps.push_back(who + " before " + what);
      steps.push_back(who + " after " + what);
    }
  };
  around("coordinator", {"assignment", "audit", "finishing an upload", "meta", "nodes", "releases", "rounds",
                         "tasks", "tokens", "updates", "verdicts", "versions"});
  around("node", {"finishing a download", "manifests", "meta", "outbox", "tasks", "verdicts"});
  return steps;
}

/// Those of `names` that were not counted.
std::vector<std::string> never(const std::map<std::string, std::uint64_t>& counts,
                               std::vector<std::string> names) {
  std::erase_if(names, [&](const std::string& name) {
    const auto found = counts.find(name);
    return found != counts.end() && found->second > 0;
  });
  return names;
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
  CHECK(never(tally.fired, faults()).empty());
  CHECK(never(tally.crashed, durable_steps()).empty());
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
