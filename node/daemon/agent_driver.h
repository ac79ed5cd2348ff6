#pragma once

#include <functional>
#include <memory>
#include <string>

#include "node/core/state.h"
#include "node/daemon/folder.h"
#include "node/daemon/inference.h"
#include "node/daemon/metrics.h"
#include "protocol/result.h"

namespace rivulet::node {

/// Runs the agent in real time. One thread applies events and serves the socket; a storage thread commits
/// what they write, many at once with one sync, before their effects are carried out; a training thread
/// and a judging thread (evaluations, activations) do the work. Inference goes on beside all of them.
class AgentDriver {
 public:
  /// Takes SIGTERM and SIGINT from here on: they end run(). All references outlive the driver.
  AgentDriver(NodeFolder& folder, State state, Inference& inference, Metrics& metrics);
  ~AgentDriver();
  AgentDriver(const AgentDriver&) = delete;
  AgentDriver& operator=(const AgentDriver&) = delete;

  /// On the calling thread, until a signal or stop().
  /// @param on_stop called when the end begins. @return storage when the disk failed: what is not promised
  /// is lost, and a restart tells what the disk kept.
  Status run(std::function<void(bool disk_failed)> on_stop = {});
  /// From any thread.
  void stop();
  /// The disk failed elsewhere; run() ends with the error. From any thread.
  void fail_with(const Error& error);
  /// The time by which samples age: the later of the local clock and the coordinator's signed time. From any
  /// thread.
  [[nodiscard]] UtcTime utc() const;
  /// The agent's status and the buffer's, one JSON document. From any thread while run() runs.
  /// @return busy if the agent does not answer in time.
  Result<std::string> status();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The document that status() gives, for a folder without a daemon too.
/// @param served null: no model is loaded.
std::string status_document(const State& state, const SampleCounts& samples, const ServedModel* served,
                            bool running);

}  // namespace rivulet::node
