#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace rivulet::coordinator {

/// One thread that does jobs in order. Jobs that have not begun when it is destroyed are dropped.
class JobThread {
 public:
  JobThread();
  /// Waits for the job under way.
  ~JobThread();
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;

  /// Any thread.
  void post(std::function<void()> job);
  /// Whether no job waits or is under way.
  [[nodiscard]] bool idle() const;

 private:
  void run();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  bool working_ = false;
  bool stopping_ = false;
  std::thread thread_;  // Last: it uses all the others.
};

}  // namespace rivulet::coordinator
