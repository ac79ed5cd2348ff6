#include "models/runtime/profile/meter.h"

#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <memory>

namespace rivulet {
namespace {

#if TORCH_VERSION_MAJOR >= 2
using Total = std::size_t;
#else
using Total = std::int64_t;
#endif

class MemoryMeter final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t size, Total, Total, c10::Device) override {
    held_ += size;
    highest_ = std::max(highest_, held_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  [[nodiscard]] std::uint64_t highest() const { return static_cast<std::uint64_t>(highest_); }

 private:
  std::int64_t held_ = 0;  // Below 0 once something from before is freed.
  std::int64_t highest_ = 0;
};

/// The callbacks are plain functions: their state is the thread's.
struct Recording {
  std::vector<OperatorTime>* operators = nullptr;
  std::size_t depth = 0;
  std::chrono::steady_clock::time_point began;
};

thread_local Recording recording;

std::unique_ptr<at::ObserverContext> on_begin(const at::RecordFunction& function) {
  if (recording.depth++ == 0) {
    recording.operators->push_back({function.name(), {}, 0});
    recording.began = std::chrono::steady_clock::now();
  }
  return nullptr;
}

/// Of the first answer, if that is a tensor. Called by the interpreter, an operator's answers are the last
/// values of its whole stack.
std::string shape_of_answer(const at::RecordFunction& function) {
  const auto& stack = function.outputs();
  const std::size_t answers = function.num_outputs();
  if (answers == 0 || stack.size() < answers) return {};
  const c10::IValue& first = stack[stack.size() - answers];
  if (!first.isTensor() || !first.toTensor().defined()) return {};
  return fmt::format("{}", fmt::join(first.toTensor().sizes(), "x"));
}

void on_end(const at::RecordFunction& function, at::ObserverContext*) {
  if (--recording.depth != 0) return;
  const auto time = std::chrono::steady_clock::now() - recording.began;
  OperatorTime& step = recording.operators->back();
  step.microseconds = std::chrono::duration<double, std::micro>(time).count();
  step.shape = shape_of_answer(function);
}

class Callback {
 public:
  explicit Callback(std::vector<OperatorTime>& operators) {
    recording = {&operators, 0, {}};
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback(on_begin, on_end).needsOutputs(true).scopes({at::RecordScope::FUNCTION}));
  }
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  ~Callback() { at::removeCallback(handle_); }

 private:
  at::CallbackHandle handle_ = 0;
};

}  // namespace

Metered meter(const std::function<void()>& work) {
  Metered metered;
  const auto memory = std::make_shared<MemoryMeter>();
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, memory);
    const Callback callback(metered.operators);
    work();
  }
  metered.tensor_bytes_max = memory->highest();
  return metered;
}

}  // namespace rivulet
