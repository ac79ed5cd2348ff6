#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "protocol/limits.h"
#include "sim/experiment/fleet_data.h"
#include "sim/experiment/job_pool.h"
#include "sim/experiment/torch_models.h"
#include "sim/world/founding.h"
#include "sim/world/virtual_coordinator.h"
#include "sim/world/virtual_node.h"

namespace rivulet::sim {

/// Versions that are ready to serve, held once for all nodes that hold them. Thread-safe.
class SharedActivations {
 public:
  using Ready = Result<std::shared_ptr<const node::Activation>>;
  /// What the first caller's `prepare` made, for all who ask for the same version and variant.
  Ready once(const node::effect::Activate& task, const std::function<Ready()>& prepare);
  /// The shared form of `ready`, if others hold the same weights.
  std::shared_ptr<const node::Activation> share(const node::effect::Activate& task,
                                                std::shared_ptr<const node::Activation> ready);

 private:
  struct Entry {
    std::mutex mutex;
    std::shared_ptr<const node::Activation> ready;
  };
  std::shared_ptr<Entry> entry_of(const node::effect::Activate& task);

  std::mutex mutex_;
  std::map<std::pair<std::uint64_t, std::string>, std::shared_ptr<Entry>> entries_;  // Shared with callers.
};

/// A whole fleet for one experiment: the real coordinator and nodes in a virtual world without faults.
class VirtualFleet {
 public:
  /// @param data outlives the fleet. @param threads that compute, at least 1.
  VirtualFleet(const Experiment& experiment, const FleetData& data, std::size_t threads);

  /// Founds the fleet, imports the release, and lets all nodes join. @return what went wrong, in words.
  Status found();
  /// Lets the world go on by one action. @return false if nothing will ever happen any more.
  bool go_on() { return loop_.run_one(); }
  /// Whether every node serves what it is to serve.
  [[nodiscard]] bool settled() const;

  [[nodiscard]] MonotonicTime now() const { return loop_.now(); }
  [[nodiscard]] VirtualCoordinator& coordinator() { return coordinator_; }
  [[nodiscard]] const coordinator::State& state() const { return *coordinator_.state(); }
  [[nodiscard]] const ParameterLayout& layout() const { return layout_; }

 private:
  Status import_release();
  void add_nodes();
  template <typename Done>
  Status run_until(MonotonicTime until, Done done, const char* what);

  const Experiment& experiment_;
  const FleetData& data_;
  EventLoop loop_;
  Faults faults_;
  Limits limits_;
  Founding founding_;
  ParameterLayout layout_;
  std::shared_ptr<ContentPool> pool_;  // Shared with all disks.
  ModelShelf shelf_;
  RememberingRunner runner_;
  SharedActivations activations_;
  VirtualCoordinator coordinator_;
  std::vector<std::unique_ptr<VirtualNode>> nodes_;
  JobPool jobs_;  // Last, so that it ends first: what runs refers to the rest.
};

}  // namespace rivulet::sim
