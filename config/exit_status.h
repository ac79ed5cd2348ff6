#pragma once

#include "protocol/result.h"

namespace rivulet {

/// What every program of ours ends with; docs/operations.md tells operators.
inline constexpr int exit_done = 0;
inline constexpr int exit_failed = 1;  ///< Nothing is wrong with what was asked, but it could not be done.
inline constexpr int exit_wrong_usage =
    2;  ///< Arguments, configuration or the modes of files are to be mended.

/// The status of a program that ends with such an error.
constexpr int exit_status(Errc code) {
  const bool usage = code == Errc::invalid || code == Errc::unsupported || code == Errc::permission;
  return usage ? exit_wrong_usage : exit_failed;
}

}  // namespace rivulet
