#pragma once

#include <filesystem>

#include "bench/fleet/shared_delta.h"
#include "protocol/result.h"

namespace rivulet::bench {

/// The peer that uploads are measured against: one writer puts the same contents into files of `folder`
/// (made, and removed at the end) with no more than durability asks for: write, fdatasync, rename, sync
/// of the folder. @return seconds.
Result<double> write_plainly(const SharedDelta& delta, std::uint32_t files,
                             const std::filesystem::path& folder);

}  // namespace rivulet::bench
