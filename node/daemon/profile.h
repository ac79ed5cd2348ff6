#pragma once

#include <filesystem>

#include "models/runtime/profile/report.h"
#include "protocol/result.h"

namespace rivulet::node {

/// What the version that a node serves costs on this machine: every engine on every variant. The daemon must
/// not run, or each would slow the other down.
/// @return busy while the daemon runs or before the node has a version; the errors of open_node_folder.
Result<ProfileReport> profile_folder(const std::filesystem::path& folder);

}  // namespace rivulet::node
