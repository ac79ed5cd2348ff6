#pragma once

namespace rivulet {

/// What every program of ours answers to --version, and what a node tells the coordinator.
inline constexpr const char* software_name = "rivulet 0.1.0";

}  // namespace rivulet
