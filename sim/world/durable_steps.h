#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>

#include "sim/world/event_loop.h"
#include "sim/world/faults.h"
#include "storage/commit_queue.h"
#include "storage/memory_disk.h"

namespace rivulet::sim {

/// The storage thread of a virtual machine: commits what a core wants written, one synced batch at a
/// time, and releases its effects after. Crashes and disk faults strike here.
template <typename Effect>
class DurableSteps {
 public:
  /// What the machine gives.
  struct Process {
    std::function<EventLoop::Action(std::function<void()>)> guard;
    std::function<void()> crash;  ///< Takes effect once the current action is over.
  };
  /// What the program gives; only the first is needed.
  struct Hooks {
    std::function<void(Effect&)> carry_out;
    std::function<void(bool full)> on_full;
    std::function<void(WriteBatch&)> before_commit;  ///< May change what is written: seeded bugs.
  };

  DurableSteps(EventLoop& loop, Faults& faults, std::string name, MemoryDisk& disk, Store& store,
               Process process, Hooks hooks)
      : loop_(loop),
        faults_(faults),
        name_(std::move(name)),
        disk_(disk),
        store_(store),
        process_(std::move(process)),
        hooks_(std::move(hooks)) {}

  void push(WriteBatch writes, std::vector<Effect> effects) {
    queue_.push(std::move(writes), std::move(effects));
    pump();
  }

  /// Whether effects wait for a commit.
  [[nodiscard]] bool committing() const { return queue_.in_flight(); }

 private:
  void pump() {
    if (releasing_ || !queue_.ready()) return;
    batch_ = queue_.start();
    if (batch_.empty()) return release();
    if (hooks_.before_commit) hooks_.before_commit(batch_);
    schedule_commit(faults_.delay(std::chrono::milliseconds(20)));
  }

  void schedule_commit(MonotonicTime delay) {
    loop_.after(delay, process_.guard([this] { commit(); }));
  }

  void commit() {
    if (crash_at_families("before")) return;
    if (faults_.fire("disk full", faults_.rates().disk_full)) disk_.fail_next_commit(Errc::storage_full);
    if (faults_.fire("disk error", faults_.rates().disk_error)) disk_.fail_next_commit(Errc::storage);
    const Status status = store_.commit(batch_, Durability::synced);
    if (!status && status.error().code == Errc::storage_full) {
      if (!full_ && hooks_.on_full) hooks_.on_full(true);
      full_ = true;
      return schedule_commit(std::chrono::seconds(1));
    }
    // A disk that failed leaves nobody knowing what it kept: the process ends, and reads it anew.
    if (!status) return process_.crash();
    if (crash_at_families("after")) return;
    if (std::exchange(full_, false) && hooks_.on_full) hooks_.on_full(false);
    release();
  }

  bool crash_at_families(const char* when) {
    std::set<std::string> families;
    for (const Write& write : batch_) {
      families.insert(std::visit([](const auto& value) { return value.family; }, write));
    }
    for (const std::string& family : families) {
      if (faults_.crash_at(name_ + " " + when + " " + family)) {
        process_.crash();
        return true;
      }
    }
    return false;
  }

  void release() {
    releasing_ = true;  // What effects push in the meantime comes after all of them.
    for (Effect& effect : queue_.finish()) hooks_.carry_out(effect);
    releasing_ = false;
    pump();
  }

  EventLoop& loop_;
  Faults& faults_;
  std::string name_;
  MemoryDisk& disk_;
  Store& store_;
  Process process_;
  Hooks hooks_;
  CommitQueue<Effect> queue_;
  WriteBatch batch_;
  bool full_ = false;
  bool releasing_ = false;
};

}  // namespace rivulet::sim
