#include "protocol/transport/deadline.h"

#include <asio/experimental/as_tuple.hpp>

namespace rivulet {

asio::awaitable<bool> is_cancelled() {
  const asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
  co_return state.cancelled() != asio::cancellation_type::none;
}

asio::awaitable<Status> sleep_until(Deadline deadline) {
  if (co_await is_cancelled()) co_return fail(Errc::cancelled, "stopped");
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor, deadline);
  const auto [error] = co_await timer.async_wait(asio::experimental::as_tuple(asio::use_awaitable));
  if (error) co_return fail(Errc::cancelled, "stopped");
  co_return Status();
}

}  // namespace rivulet
