#include "protocol/transport/task_group.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/transport/fixture.h"

namespace rivulet {
namespace {

using namespace std::chrono_literals;

asio::awaitable<void> wait_for_ever(int& stopped) {
  const Status slept = co_await sleep_until(no_deadline);
  if (!slept && slept.error().code == Errc::cancelled) ++stopped;
}

TEST_CASE("close stops every task and awaits it", "[transport][task_group]") {
  asio::io_context io;
  TaskGroup group(io.get_executor(), [](std::string_view) {});
  int stopped = 0;
  for (int index = 0; index < 100; ++index) CHECK(group.spawn(wait_for_ever(stopped)));
  io.poll();
  CHECK(group.running() == 100);
  CHECK(stopped == 0);
  run(io, group.close());
  CHECK(group.running() == 0);
  CHECK(stopped == 100);
  CHECK_FALSE(group.spawn(wait_for_ever(stopped)));
  CHECK(group.running() == 0);
}

TEST_CASE("tasks that never ran are stopped too", "[transport][task_group]") {
  asio::io_context io;
  TaskGroup group(io.get_executor(), [](std::string_view) {});
  int stopped = 0;
  for (int index = 0; index < 10; ++index) group.spawn(wait_for_ever(stopped));
  run(io, group.close());
  CHECK(group.running() == 0);
}

TEST_CASE("a task that ends by itself leaves the group", "[transport][task_group]") {
  asio::io_context io;
  TaskGroup group(io.get_executor(), [](std::string_view) {});
  int steps = 0;
  group.spawn([](int& count) -> asio::awaitable<void> {
    ++count;
    const Status slept = co_await sleep_until(deadline_in(1ms));
    if (slept) ++count;
  }(steps));
  run_until(io, [&] { return group.running() == 0; });
  CHECK(steps == 2);
}

TEST_CASE("a task may close a group of its own while it is being stopped", "[transport][task_group]") {
  asio::io_context io;
  TaskGroup outer(io.get_executor(), [](std::string_view) {});
  int stopped = 0;
  outer.spawn([](asio::io_context& context, int& count) -> asio::awaitable<void> {
    TaskGroup inner(context.get_executor(), [](std::string_view) {});
    inner.spawn(wait_for_ever(count));
    const Status slept = co_await sleep_until(no_deadline);
    CHECK_FALSE(slept.has_value());
    co_await inner.close();
    CHECK(inner.running() == 0);
    ++count;
  }(io, stopped));
  io.poll();
  run(io, outer.close());
  CHECK(stopped == 2);
}

/// Runs `body` in a child process. @return its wait status.
template <typename Body>
int status_of_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);
    std::signal(SIGABRT, SIG_DFL);  // Catch2 would report it as a failed test.
    body();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

TEST_CASE("an exception that leaves a task is reported and ends the program", "[transport][task_group]") {
  int reports[2];
  REQUIRE(::pipe(reports) == 0);
  const int status = status_of_child([&] {
    asio::io_context io;
    TaskGroup group(io.get_executor(), [&](std::string_view what) {
      std::ignore = ::write(reports[1], what.data(), what.size());
    });
    group.spawn([]() -> asio::awaitable<void> {
      throw std::runtime_error("a bug");
      co_return;
    }());
    io.run();
  });
  ::close(reports[1]);
  char text[32] = {};
  CHECK(::read(reports[0], text, sizeof text - 1) == 5);
  ::close(reports[0]);
  CHECK(std::string(text) == "a bug");
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
}

TEST_CASE("destroying a group with a running task ends the program", "[transport][task_group]") {
  const int status = status_of_child([] {
    asio::io_context io;
    int stopped = 0;
    TaskGroup group(io.get_executor(), [](std::string_view) {});
    group.spawn(wait_for_ever(stopped));
    io.poll();
  });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
}

}  // namespace
}  // namespace rivulet
