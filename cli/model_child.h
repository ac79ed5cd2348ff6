#pragma once

#include <string>
#include <vector>

#include "cli/model_process.h"
#include "cli/release_publishing.h"
#include "protocol/bytes.h"

namespace rivulet::cli {

/// Lets rivulet-model, which has LibTorch, work on a version, in a folder of its own that goes again.
/// @param arguments its subcommand and options; the folder is added. @param result the file that it leaves
/// there. @return the content of that file; the errors of run_limited.
Result<Bytes> run_on_version(PublishedModel version, std::vector<std::string> arguments,
                             const std::string& result, const ProcessLimits& limits = {});

}  // namespace rivulet::cli
