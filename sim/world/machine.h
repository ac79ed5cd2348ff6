#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_set>

#include "protocol/assert.h"
#include "protocol/limits.h"
#include "sim/world/durable_steps.h"

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

  /// Visits the records of one family, from which a program recovers its state.
  static Status visit_records(const Store& store, std::string_view family,
                              const std::function<void(ByteSpan key, ByteSpan value)>& visit) {
    return store.scan(family, {}, [&](ByteSpan key, ByteSpan value) {
      visit(key, value);
      return true;
    });
  }
  /// What a program does once it has recovered: content that its state does not refer to goes, and from now
  /// on its steps are committed.
  template <typename Effect, typename Contents>
  std::unique_ptr<DurableSteps<Effect>> start_steps(Store& store, BlobStore& blobs,
                                                    const Contents& referenced,
                                                    typename DurableSteps<Effect>::Hooks hooks) {
    const auto swept =
        sweep(blobs, std::unordered_set<ContentId>(referenced.begin(), referenced.end()), UtcTime{});
    RIVULET_ASSERT(swept);
    typename DurableSteps<Effect>::Process process{
        .guard = [this](std::function<void()> action) { return guarded(std::move(action)); },
        .crash = [this] { crash_soon(); }};
    return std::make_unique<DurableSteps<Effect>>(loop_, faults_, name_, disk_, store, std::move(process),
                                                  std::move(hooks));
  }

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

}  // namespace rivulet::sim
