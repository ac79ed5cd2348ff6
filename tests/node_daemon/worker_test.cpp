#include "node/daemon/worker.h"

#include <future>
#include <new>
#include <vector>

#include "tests/catch.h"

namespace rivulet::node {
namespace {

TEST_CASE("a worker does its jobs in order, on a thread of its own, and finishes them at its end",
          "[node][worker]") {
  std::vector<int> done;
  std::thread::id thread;
  {
    Worker worker(Worker::AtEnd::finish);
    for (int i = 0; i < 100; ++i) {
      worker.post([&done, &thread, i] {
        done.push_back(i);
        thread = std::this_thread::get_id();
      });
    }
  }
  REQUIRE(done.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(done[static_cast<std::size_t>(i)] == i);
  CHECK(thread != std::this_thread::get_id());
}

TEST_CASE("a worker that discards ends the job under way and drops those that wait", "[node][worker]") {
  std::promise<void> started, go_on;
  bool first = false, second = false;
  {
    Worker worker(Worker::AtEnd::discard);
    worker.post([&] {
      started.set_value();
      go_on.get_future().wait();
      first = true;
    });
    worker.post([&] { second = true; });
    started.get_future().wait();
    worker.stop();
    worker.post([&] { second = true; });
    go_on.set_value();
  }
  CHECK(first);
  CHECK_FALSE(second);
}

TEST_CASE("what a library throws costs the job and not the daemon", "[node][worker]") {
  const auto bad = caught([]() -> Result<int> { throw std::bad_alloc(); });
  REQUIRE_FALSE(bad);
  CHECK(bad.error().code == Errc::internal);
  CHECK(bad.error().detail == "std::bad_alloc");
  const auto odd = caught([]() -> Status { throw 7; });
  REQUIRE_FALSE(odd);
  CHECK(odd.error().code == Errc::internal);
  CHECK(caught([]() -> Result<int> { return 3; }) == 3);
  CHECK(caught([]() -> Status { return fail(Errc::busy, "later"); }).error().code == Errc::busy);
}

}  // namespace
}  // namespace rivulet::node
