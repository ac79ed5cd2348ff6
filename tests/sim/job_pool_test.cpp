#include "sim/experiment/job_pool.h"

#include <atomic>
#include <numeric>

#include "tests/catch.h"

using rivulet::sim::JobPool;

TEST_CASE("a job is done when its end was asked for, with any number of threads", "[sim]") {
  for (const std::size_t threads : {1U, 2U, 4U}) {
    JobPool pool(threads);
    std::vector<int> results(100, 0);
    std::vector<std::function<void()>> ends;
    for (std::size_t i = 0; i < results.size(); ++i)
      ends.push_back(pool.begin([&, i] { results[i] = static_cast<int>(i); }));
    // Asked for in another order than begun.
    for (std::size_t i = results.size(); i-- > 0;) {
      ends[i]();
      CHECK(results[i] == static_cast<int>(i));
    }
  }
}

TEST_CASE("one thread runs a job where its end is asked for", "[sim]") {
  JobPool pool(1);
  const auto here = std::this_thread::get_id();
  std::thread::id there;
  pool.begin([&] { there = std::this_thread::get_id(); })();
  CHECK(there == here);
}

TEST_CASE("a pool that goes drops the jobs that were not begun", "[sim]") {
  std::atomic<int> run = 0;
  {
    JobPool pool(1);
    for (int i = 0; i < 10; ++i) std::ignore = pool.begin([&] { ++run; });
  }
  CHECK(run == 0);
}
