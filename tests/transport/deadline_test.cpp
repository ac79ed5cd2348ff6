#include "protocol/transport/deadline.h"

#include "protocol/transport/task_group.h"
#include "tests/transport/fixture.h"

namespace rivulet {
namespace {

using namespace std::chrono_literals;

asio::awaitable<Result<std::string>> answer_after(std::chrono::milliseconds wait, std::string answer) {
  const Status slept = co_await sleep_until(deadline_in(wait));
  if (!slept) co_return std::unexpected(slept.error());
  co_return answer;
}

asio::awaitable<Status> throw_at_once() {
  throw std::runtime_error("broken");
  co_return Status();
}

TEST_CASE("an operation that ends before its deadline gives its result", "[transport][deadline]") {
  asio::io_context io;
  run(io, []() -> asio::awaitable<void> {
    asio::awaitable<Result<std::string>> soon =
        answer_after(1ms, "a text that is too long for a small string");
    const Result<std::string> result = co_await with_deadline(std::move(soon), deadline_in(20s));
    REQUIRE(result.has_value());
    CHECK(*result == "a text that is too long for a small string");
  }());
}

TEST_CASE("an operation that is late is stopped, awaited and reported as timeout", "[transport][deadline]") {
  asio::io_context io;
  run(io, []() -> asio::awaitable<void> {
    asio::awaitable<Result<std::string>> late = answer_after(60s, "never");
    const Result<std::string> result = co_await with_deadline(std::move(late), deadline_in(10ms));
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == Errc::timeout);
  }());
}

TEST_CASE("an exception passes through a deadline", "[transport][deadline]") {
  asio::io_context io;
  run(io, []() -> asio::awaitable<void> {
    asio::awaitable<Status> broken = throw_at_once();
    bool thrown = false;
    try {
      std::ignore = co_await with_deadline(std::move(broken), deadline_in(10s));
    } catch (const std::runtime_error& error) {
      thrown = std::string(error.what()) == "broken";
    }
    CHECK(thrown);
  }());
}

TEST_CASE("stopping a task reaches the operation behind its deadline, and all later waits",
          "[transport][deadline]") {
  asio::io_context io;
  TaskGroup group(io.get_executor(), [](std::string_view) {});
  std::vector<Errc> met;
  const auto work = [](std::vector<Errc>& errors) -> asio::awaitable<void> {
    asio::awaitable<Result<std::string>> late = answer_after(60s, "never");
    const Result<std::string> first = co_await with_deadline(std::move(late), deadline_in(50s));
    if (!first) errors.push_back(first.error().code);
    const Status second = co_await sleep_until(deadline_in(60s));
    if (!second) errors.push_back(second.error().code);
    asio::awaitable<Result<std::string>> more = answer_after(60s, "never");
    const Result<std::string> third = co_await with_deadline(std::move(more), deadline_in(50s));
    if (!third) errors.push_back(third.error().code);
  };
  group.spawn(work(met));
  io.poll();
  CHECK(met.empty());
  run(io, group.close());
  CHECK(met == std::vector<Errc>(3, Errc::cancelled));
}

}  // namespace
}  // namespace rivulet
