#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <type_traits>

#include "protocol/result.h"

namespace rivulet::node {

/// What `job` returns, a Result or Status. What a library throws, for want of memory too, costs the job and
/// not the daemon. @return internal then.
template <typename Job>
std::invoke_result_t<Job> caught(Job&& job) {
  try {
    return std::forward<Job>(job)();
  } catch (const std::exception& exception) {
    return fail(Errc::internal, exception.what());
  } catch (...) {
    return fail(Errc::internal, "an unknown exception");
  }
}

/// A thread that does one job after the other, in the order in which they were posted.
class Worker {
 public:
  enum class AtEnd {
    finish,   ///< All jobs are done before the thread ends.
    discard,  ///< The job under way is; the others are dropped.
  };

  /// @param nice how much the thread gives way to others (0 to 19), so that training never slows answers.
  explicit Worker(AtEnd at_end, int nice = 0);
  /// Waits for the thread.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// From any thread; dropped once the end has begun.
  void post(std::function<void()> job);
  /// Begins the end and returns at once.
  void stop();

 private:
  void run(int nice);

  const AtEnd at_end_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace rivulet::node
