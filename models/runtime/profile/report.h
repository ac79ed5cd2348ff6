#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/ids.h"

/// What a model costs on one machine, for people and programs. No LibTorch.
namespace rivulet {

/// One operator of a forward pass, in the order in which they run. Order and shape tell layers of one kind
/// apart: engines fold, fuse and rename, so that a layer's own name is not known any more when it runs.
struct OperatorTime {
  std::string name;         ///< LibTorch's, e.g. "quantized::conv2d_relu".
  std::string shape;        ///< Of the tensor that it answers, e.g. "1x32x28x28"; empty if it is none.
  double microseconds = 0;  ///< Mean over the passes that were looked at.

  bool operator==(const OperatorTime&) const = default;
};

/// A variant of a version, run by one engine.
struct EngineProfile {
  std::string variant;
  std::string engine;     ///< name(Engine)
  std::string refusal{};  ///< Why it does not run here; what follows is then 0. Empty: it runs.
  bool taken = false;     ///< The one that a node would serve the variant with.
  std::uint64_t file_bytes = 0;
  std::uint64_t parameters = 0;
  double p50_us = 0;  ///< Of calls with one sample, preprocessing and all.
  double p95_us = 0;
  double p99_us = 0;
  double samples_per_second = 0;       ///< In batches of inference_batch.
  std::uint64_t activation_bytes = 0;  ///< The most that tensors of one pass with one sample hold at once.
  /// By how much loading and running raised the process's memory; nothing where the system does not tell.
  std::optional<std::uint64_t> peak_bytes{};
  std::vector<OperatorTime> operators{};

  bool operator==(const EngineProfile&) const = default;
};

struct ProfileReport {
  std::string model;
  VersionNumber version = 0;
  std::string machine;  ///< Its processor.
  std::vector<EngineProfile> engines;

  bool operator==(const ProfileReport&) const = default;
};

/// Lines for a terminal: a row for each engine, then the operators of those that are taken.
std::string to_table(const ProfileReport& report);
/// {"model","version","machine","engines":[{"variant","engine","refusal" or the figures, "operators":[…]}]}
std::string to_json(const ProfileReport& report);
/// A bar for each engine that runs, as long as its median latency, with the 95th percentile as a line.
std::string to_svg(const ProfileReport& report);

}  // namespace rivulet
