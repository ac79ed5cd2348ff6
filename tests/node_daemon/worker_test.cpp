#include "node/daemon/worker.h"

#include <future>
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

}  // namespace
}  // namespace rivulet::node
