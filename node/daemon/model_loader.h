#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "models/package/version.h"
#include "models/runtime/engine_choice.h"
#include "node/daemon/inference.h"
#include "node/work/tasks.h"

namespace rivulet::node {

/// Samples of the node, raw, [n * input_size], for where the manifest leaves activation ranges to the nodes.
struct OwnSamples {
  std::span<const float> calibration{};  ///< The ranges are found on these: training samples.
  /// int8 is held to what float answers to these, if they are enough (find_int8_fault): holdout samples.
  std::span<const float> check{};
};

/// Loads what is to serve with the fastest engine that is right. The engines of this machine are timed on
/// the first version of a release; later ones, which have the same network, take the same engine as long as
/// its answers are right. One thread at a time uses it: that of judging, where nothing trains.
///
/// The online key's manifest names ranges, int8 answers and tolerance. What is believed of these is only what
/// float confirms here: int8 has to answer the known inputs as this node does in float, within
/// int8_tolerance_of() whatever the manifest allows, and so do the int8 answers that the manifest names.
/// Those are of static int8 where there are ranges: dynamic int8 then needs samples of the node that speak
/// for it.
class ModelLoader {
 public:
  explicit ModelLoader(Stopwatch stopwatch) : stopwatch_(std::move(stopwatch)) {}

  /// Ends a load() under way early, with Errc::cancelled, and every later one. From any thread.
  void stop() { stop_ = true; }

  /// @param ready what prepare_activation found sound. @param memory_max DeviceLimits::memory_max: a variant
  /// that was chosen as one in int8 is not served in float where that does not fit; 0: it may be.
  /// @return Errc::refused with Reason::known_answers_wrong if no engine is right, not_loadable;
  /// Errc::too_large with Reason::too_large if none is that fits; the errors of InferenceModel::load.
  Result<std::shared_ptr<const ServedModel>> load(const Activation& ready, const VersionManifest& manifest,
                                                  const std::string& variant, OwnSamples own,
                                                  std::uint64_t memory_max = 0);

  /// With fewer samples of its own a node serves in float.
  static constexpr std::size_t calibration_min = 100;
  static constexpr std::size_t check_min = 50;

 private:
  struct Remembered {
    ReleaseId release;
    std::string variant;
    bool has_int8 = false;  // whether the version that was timed could run in int8
    rivulet::Engine engine;
  };

  Result<InferenceModel> choose(const EngineQuestion& question, const Remembered& wanted,
                                VersionNumber version);
  /// In float if the node's own samples speak against int8. @param own_check enough of them, or none.
  Result<InferenceModel> choose_checked(EngineQuestion& question, Remembered wanted,
                                        const VersionManifest& manifest, std::span<const float> own_check);

  Stopwatch stopwatch_;
  std::atomic<bool> stop_ = false;
  std::optional<Remembered> remembered_;
};

}  // namespace rivulet::node
