#include "protocol/transport/task_group.h"

#include <asio/bind_cancellation_slot.hpp>
#include <asio/experimental/as_tuple.hpp>

#include "protocol/assert.h"

namespace rivulet {
namespace {

asio::awaitable<void> run_quietly(asio::awaitable<void> task) {
  co_await asio::this_coro::throw_if_cancelled(false);
  co_await std::move(task);
}

/// What Asio throws at a task that was told to stop before it had run at all.
bool is_cancellation(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const asio::system_error& error) {
    return error.code() == asio::error::operation_aborted;
  } catch (...) {
    return false;
  }
}

[[noreturn]] void stop_for_bug(const std::exception_ptr& exception, const TaskGroup::OnBug& on_bug) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& error) {
    on_bug(error.what());
  } catch (...) {
    on_bug("an exception of an unknown type");
  }
  std::abort();
}

}  // namespace

TaskGroup::TaskGroup(asio::any_io_executor executor, OnBug on_bug)
    : executor_(std::move(executor)), on_bug_(std::move(on_bug)), emptied_(executor_, no_deadline) {}

TaskGroup::~TaskGroup() { RIVULET_ASSERT(signals_.empty()); }

bool TaskGroup::spawn(asio::awaitable<void> task) {
  if (closing_) return false;
  const auto signal = signals_.emplace(signals_.end());
  auto on_end = [this, signal](const std::exception_ptr& exception) { finished(signal, exception); };
  asio::co_spawn(executor_, run_quietly(std::move(task)),
                 asio::bind_cancellation_slot(signal->slot(), on_end));
  return true;
}

void TaskGroup::finished(Signals::iterator task, const std::exception_ptr& exception) {
  if (exception && !(closing_ && is_cancellation(exception))) stop_for_bug(exception, on_bug_);
  signals_.erase(task);
  if (signals_.empty()) emptied_.cancel();
}

void TaskGroup::cancel() {
  if (std::exchange(closing_, true)) return;
  for (auto signal = signals_.begin(); signal != signals_.end();) {
    const auto current = signal++;
    current->emit(asio::cancellation_type::terminal);
  }
}

asio::awaitable<void> TaskGroup::close() {
  cancel();
  while (!signals_.empty()) {
    co_await emptied_.async_wait(asio::experimental::as_tuple(asio::use_awaitable));
  }
}

}  // namespace rivulet
