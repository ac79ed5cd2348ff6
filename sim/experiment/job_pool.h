#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace rivulet::sim {

/// Runs computations ahead of the virtual time at which they end, on several threads. The thread that
/// waits for one helps with the others, so that `threads` of them work in all.
class JobPool {
 public:
  /// @param threads at least 1: with 1, jobs run where their end is asked for.
  explicit JobPool(std::size_t threads);
  /// Waits for the jobs that run; those that were not begun are dropped.
  ~JobPool();
  JobPool(const JobPool&) = delete;
  JobPool& operator=(const JobPool&) = delete;

  /// @param work throws nothing. @return waits until it is done; to be called once, from one thread for
  /// all jobs.
  std::function<void()> begin(std::function<void()> work);

 private:
  struct Job {
    std::function<void()> work;
    bool done = false;
  };

  void run_worker(const std::stop_token& stop);
  void finish(const Job& job);
  /// Takes the oldest job and runs it. @param lock held before and after.
  void run_one(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::shared_ptr<Job>> waiting_;  // Shared with those who ask for their end.
  std::vector<std::jthread> workers_;
};

}  // namespace rivulet::sim
