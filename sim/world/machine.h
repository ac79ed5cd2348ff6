#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "protocol/limits.h"
#include "sim/world/event_loop.h"
#include "sim/world/faults.h"
#include "storage/commit_queue.h"
#include "storage/memory_disk.h"

namespace rivulet::sim {

/// The virtual world's calendar starts here, on every machine whose clock is right.
inline constexpr UtcTime world_epoch = UtcTime(std::chrono::seconds(1'800'000'000));

/// What all machines share: clocks of their own, a disk that outlives the process, and the process
/// itself, which can crash at any moment and be started again.
class Machine {
 public:
  /// @param pool as MemoryDisk has it.
  Machine(EventLoop& loop, Faults& faults, std::string name, std::shared_ptr<ContentPool> pool = nullptr)
      : loop_(loop), faults_(faults), name_(std::move(name)), disk_(std::move(pool)) {}
  virtual ~Machine() = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  [[nodiscard]] bool up() const { return up_; }
  [[nodiscard]] MemoryDisk& disk() { return disk_; }
  /// Both clocks: the monotonic one starts at each boot.
  [[nodiscard]] Now now() const {
    const auto since_epoch = std::chrono::duration_cast<std::chrono::milliseconds>(loop_.now());
    return {loop_.now() - booted_at_, world_epoch + since_epoch + clock_error_};
  }
  void set_clock_error(std::chrono::milliseconds error) { clock_error_ = error; }

  /// The process dies; what its disk had not synced may be lost. It starts again after `pause`.
  void crash(MonotonicTime pause) {
    if (!up_) return;
    up_ = false;
    ++generation_;
    stop();
    disk_.crash(faults_.rng());
    loop_.after(pause, [this] { boot(); });
  }
  /// The same once the current action is over, for callers that the crash would take along.
  void crash_soon() {
    loop_.after({},
                guarded([this] { crash(std::chrono::seconds(1) + faults_.delay(std::chrono::minutes(1))); }));
  }
  void boot() {
    up_ = true;
    booted_at_ = loop_.now();
    start();
  }

 protected:
  virtual void start() = 0;
  /// Lets go of all that the process had; called from the loop alone.
  virtual void stop() = 0;

  /// An action that is dropped if the process dies before it is due.
  EventLoop::Action guarded(std::function<void()> action) {
    return [this, generation = generation_, action = std::move(action)] {
      if (generation == generation_) action();
    };
  }
  [[nodiscard]] MonotonicTime loop_time(MonotonicTime own) const { return booted_at_ + own; }

  EventLoop& loop_;
  Faults& faults_;
  std::string name_;
  MemoryDisk disk_;
  std::uint64_t generation_ = 0;

 private:
  bool up_ = false;
  MonotonicTime booted_at_{};
  std::chrono::milliseconds clock_error_{};
};

/// The storage thread of a virtual machine: commits what a core wants written, one synced batch at a
/// time, and releases its effects after. Crashes and disk faults strike here.
template <typename Effect>
class DurableSteps {
 public:
  struct Hooks {
    std::function<EventLoop::Action(std::function<void()>)> guard;
    std::function<void(Effect&)> carry_out;
    std::function<void()> crash;  ///< Takes effect once the current action is over.
    std::function<void(bool full)> on_full;
    std::function<void(WriteBatch&)> before_commit;       ///< May change what is written: seeded bugs.
    std::function<void(const WriteBatch&)> after_commit;  ///< The batch is durable.
  };

  DurableSteps(EventLoop& loop, Faults& faults, std::string name, MemoryDisk& disk, Store& store, Hooks hooks)
      : loop_(loop),
        faults_(faults),
        name_(std::move(name)),
        disk_(disk),
        store_(store),
        hooks_(std::move(hooks)) {}

  void push(WriteBatch writes, std::vector<Effect> effects) {
    queue_.push(std::move(writes), std::move(effects));
    pump();
  }

 private:
  void pump() {
    if (releasing_ || !queue_.ready()) return;
    batch_ = queue_.start();
    if (batch_.empty()) return release();
    if (hooks_.before_commit) hooks_.before_commit(batch_);
    schedule_commit(faults_.delay(std::chrono::milliseconds(20)));
  }

  void schedule_commit(MonotonicTime delay) {
    loop_.after(delay, hooks_.guard([this] { commit(); }));
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
    if (!status) return hooks_.crash();
    if (hooks_.after_commit) hooks_.after_commit(batch_);
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
        hooks_.crash();
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
  Hooks hooks_;
  CommitQueue<Effect> queue_;
  WriteBatch batch_;
  bool full_ = false;
  bool releasing_ = false;
};

}  // namespace rivulet::sim
