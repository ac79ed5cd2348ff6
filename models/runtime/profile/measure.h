#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/package/release.h"
#include "models/quantization/ranges.h"
#include "models/runtime/engine_choice.h"
#include "models/runtime/profile/peak_memory.h"
#include "models/runtime/profile/report.h"

namespace rivulet {

/// How long each engine is looked at.
struct ProfilePlan {
  std::size_t warm_up = 10;
  std::size_t calls_min = 30;
  std::size_t calls_max = 2000;
  std::chrono::nanoseconds time_max =
      std::chrono::seconds(1);  ///< For single samples, and for batches again.
  std::size_t metered_calls = 5;
  /// Made where files may still be opened for writing; null: by profile_engines itself.
  const PeakMemory* memory = nullptr;
};

/// A variant that a version offers, and whether a node may run it in int8.
struct OfferedVariant {
  std::string name;
  bool in_int8 = false;
  std::optional<ActivationRanges> ranges{};  ///< As published, if they are at hand.
};

/// Every engine of this machine on each variant that a version offers, one after the other; the one that a
/// node would take is marked.
/// @param weights w_t, [layout.size()]. Where ranges are wanted and not at hand they are found on the known
/// inputs, which serves for times, not for answers.
/// Call it on a thread that use_one_thread() governs, with nothing else running.
/// @return invalid when release and weights don't fit; the errors of the snapshot.
Result<std::vector<EngineProfile>> profile_engines(const Release& release, std::span<const float> weights,
                                                   std::span<const OfferedVariant> variants,
                                                   const ProfilePlan& plan, const Stopwatch& now);

/// The processor's name as the system tells it, or "an unnamed processor".
std::string processor_name();

}  // namespace rivulet
