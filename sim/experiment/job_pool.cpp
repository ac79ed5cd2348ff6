#include "sim/experiment/job_pool.h"

namespace rivulet::sim {

JobPool::JobPool(std::size_t threads) {
  for (std::size_t i = 1; i < threads; ++i) {
    workers_.emplace_back([this](const std::stop_token& stop) { run_worker(stop); });
  }
}

JobPool::~JobPool() {
  {
    const std::lock_guard lock(mutex_);
    waiting_.clear();
  }
  workers_.clear();
}

std::function<void()> JobPool::begin(std::function<void()> work) {
  const auto job = std::make_shared<Job>(std::move(work));
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(job);
  }
  changed_.notify_all();
  return [this, job] { finish(*job); };
}

void JobPool::run_one(std::unique_lock<std::mutex>& lock) {
  const std::shared_ptr<Job> job = std::move(waiting_.front());
  waiting_.pop_front();
  lock.unlock();
  job->work();
  job->work = {};
  lock.lock();
  job->done = true;
  changed_.notify_all();
}

void JobPool::run_worker(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !waiting_.empty(); })) run_one(lock);
}

void JobPool::finish(const Job& job) {
  std::unique_lock lock(mutex_);
  while (!job.done) {
    if (!waiting_.empty()) {
      run_one(lock);
    } else {
      changed_.wait(lock, [&] { return job.done || !waiting_.empty(); });
    }
  }
}

}  // namespace rivulet::sim
