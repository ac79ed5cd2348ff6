#include "cli/profiling.h"

#include "cli/writes_nothing.h"
#include "models/package/release.h"

namespace rivulet::cli {

Result<ProfileReport> profile_prepared(const PreparedModel& model, VersionNumber number,
                                       const std::vector<OfferedVariant>& offered, const ProfilePlan& plan) {
  const auto release = decode_release(model.release);
  if (!release) return std::unexpected(release.error());
  const PeakMemory memory;
  ProfilePlan guarded = plan;
  guarded.memory = &memory;
  auto engines = without_writing(
      [&] { return profile_engines(*release, model.weights, offered, guarded, steady_stopwatch()); });
  if (!engines) return std::unexpected(engines.error());
  return ProfileReport{release->name, number, processor_name(), std::move(*engines)};
}

}  // namespace rivulet::cli
