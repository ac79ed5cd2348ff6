#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/steady_timer.hpp>
#include <exception>
#include <functional>
#include <list>
#include <string_view>

#include "protocol/transport/deadline.h"

namespace rivulet {

/// Owns the coroutines that are started in it, like Seastar's gate: none outlives close(). A task that is
/// told to stop is not thrown at; its current wait and all later ones return Errc::cancelled (TlsStream,
/// FrameStream, sleep_until, with_deadline), and it returns in its own way. All calls are made on the
/// executor, which is a strand or runs on one thread.
class TaskGroup {
 public:
  /// Told about an exception that left a task, which is a bug, just before the program aborts.
  using OnBug = std::function<void(std::string_view what)>;

  TaskGroup(asio::any_io_executor executor, OnBug on_bug);
  /// No task may be running: await close() first.
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  /// Starts `task`. @return false, with the task destroyed unstarted, if the group is closing.
  bool spawn(asio::awaitable<void> task);
  /// Tells every task to stop and lets none start any more.
  void cancel();
  /// cancel(), then waits for the last task to end. Never called from a task of the same group. The caller
  /// being told to stop does not cut it short.
  asio::awaitable<void> close();

  [[nodiscard]] std::size_t running() const { return signals_.size(); }

 private:
  using Signals = std::list<asio::cancellation_signal>;
  void finished(Signals::iterator task, const std::exception_ptr& exception);

  asio::any_io_executor executor_;
  OnBug on_bug_;
  Signals signals_;             // one a task; a list, since Asio keeps their addresses
  asio::steady_timer emptied_;  // never expires; cancelled when the last task has ended
  bool closing_ = false;
};

}  // namespace rivulet
