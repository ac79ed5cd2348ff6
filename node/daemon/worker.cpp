#include "node/daemon/worker.h"

#include <sys/resource.h>

#include <tuple>
#include <utility>

namespace rivulet::node {

Worker::Worker(AtEnd at_end, int nice) : at_end_(at_end), thread_([this, nice] { run(nice); }) {}

Worker::~Worker() {
  stop();
  thread_.join();
}

void Worker::post(std::function<void()> job) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return;
  jobs_.push_back(std::move(job));
  changed_.notify_one();
}

void Worker::stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  if (at_end_ == AtEnd::discard) jobs_.clear();
  changed_.notify_one();
}

void Worker::run(int nice) {
  // Linux takes it for the calling thread alone. A system that refuses has it without the courtesy.
  if (nice != 0) std::ignore = ::setpriority(PRIO_PROCESS, 0, nice);
  while (true) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace rivulet::node
