#pragma once

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/error.hpp>
#include <asio/experimental/deferred.hpp>
#include <asio/experimental/parallel_group.hpp>
#include <asio/steady_timer.hpp>
#include <asio/system_error.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <chrono>
#include <optional>

#include "protocol/result.h"

namespace rivulet {

/// A moment of the monotonic clock after which a wait is given up.
using Deadline = std::chrono::steady_clock::time_point;
inline constexpr Deadline no_deadline = Deadline::max();

inline Deadline deadline_in(std::chrono::nanoseconds wait) {
  return std::chrono::steady_clock::now() + std::chrono::duration_cast<Deadline::duration>(wait);
}

/// Whether the coroutine's task was told to stop. Asio tells a task once; asking before each wait makes it
/// stick.
asio::awaitable<bool> is_cancelled();

/// @return cancelled if the task was told to stop before `deadline`.
asio::awaitable<Status> sleep_until(Deadline deadline);

namespace detail {

template <typename T>
asio::awaitable<void> store_result(asio::awaitable<Result<T>> operation, std::optional<Result<T>>& result) {
  co_await asio::this_coro::throw_if_cancelled(false);  // It learns from an Error, as in a TaskGroup.
  result.emplace(co_await std::move(operation));
}

}  // namespace detail

/// Awaits `operation`, which is told to stop at `deadline` or when the calling task is, and is always awaited
/// to its end. @return what it returned; timeout if it gave up because of the deadline; cancelled.
template <typename T>
asio::awaitable<Result<T>> with_deadline(asio::awaitable<Result<T>> operation, Deadline deadline) {
  if (co_await is_cancelled()) co_return fail(Errc::cancelled, "stopped");
  const auto executor = co_await asio::this_coro::executor;
  std::optional<Result<T>> result;
  asio::steady_timer timer(executor, deadline);
  auto race = asio::experimental::make_parallel_group(
      asio::co_spawn(executor, detail::store_result(std::move(operation), result),
                     asio::experimental::deferred),
      timer.async_wait(asio::experimental::deferred));
  const asio::experimental::wait_for_one first;
  const auto [order, exception, timer_error] = co_await race.async_wait(first, asio::use_awaitable);
  if (!result) {
    // It never started, since the task was told to stop just then; anything else is not ours to swallow.
    if (co_await is_cancelled()) co_return fail(Errc::cancelled, "stopped");
    std::rethrow_exception(exception);
  }
  const bool expired = order[0] == 1 && !timer_error;
  if (expired && !result->has_value() && result->error().code == Errc::cancelled) {
    co_return fail(Errc::timeout, "not finished by its deadline");
  }
  co_return std::move(*result);
}

}  // namespace rivulet
