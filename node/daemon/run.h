#pragma once

#include <filesystem>

#include "protocol/result.h"

namespace rivulet::node {

/// The daemon, from start to SIGTERM or SIGINT, which end it within 10 s. Prints one line of JSON once its
/// API answers; the coordinator need not be there. The log has been set up.
/// @return invalid for a wrong configuration; conflict if a daemon runs in the folder; storage when the
/// disk failed.
Status run_daemon(const std::filesystem::path& folder);

}  // namespace rivulet::node
