#pragma once

#include <functional>
#include <memory>

#include "node/core/effects.h"
#include "node/work/engine.h"
#include "node/work/tasks.h"
#include "protocol/now.h"

namespace rivulet::sim {

/// The hardware of a virtual node: what it computes with, and how long that takes in virtual time.
class Device {
 public:
  virtual ~Device() = default;

  virtual MonotonicTime training_time(const node::effect::Train& task) = 0;
  virtual MonotonicTime evaluation_time(const node::effect::Evaluate& task) = 0;
  virtual MonotonicTime activation_time(const node::effect::Activate& task) = 0;

  /// Takes on a computation. @return to be called once, from the loop, when its virtual time is over;
  /// afterwards it is done. Until then it may run at any moment, on another thread: its result must not
  /// depend on when. One whose end is never asked for may not be done at all.
  virtual std::function<void()> begin(std::function<void()> computation) = 0;
  /// Whether a task that was stopped still answers, late: only where computations do not run ahead.
  [[nodiscard]] virtual bool answers_late() const = 0;

  /// Computations that overlap may call it from several threads at once.
  virtual node::Engine& engine() = 0;
  /// node::prepare_activation() with this engine. @param active may be null.
  virtual Result<std::shared_ptr<const node::Activation>> prepare(const node::effect::Activate& task,
                                                                  const node::Activation* active,
                                                                  const BlobStore& blobs);
};

}  // namespace rivulet::sim
