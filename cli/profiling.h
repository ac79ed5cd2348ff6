#pragma once

#include <vector>

#include "cli/prepared_model.h"
#include "models/runtime/profile/measure.h"

namespace rivulet::cli {

/// Times every engine of this machine on the variants of a version. The network may be a user's: while it
/// runs no byte can be written to a file. Call it on a thread that use_one_thread() governs.
/// @param number for the heading. @return the errors of decode_release, without_writing and profile_engines.
Result<ProfileReport> profile_prepared(const PreparedModel& model, VersionNumber number,
                                       const std::vector<OfferedVariant>& offered,
                                       const ProfilePlan& plan = {});

}  // namespace rivulet::cli
