#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "protocol/result.h"

namespace rivulet::cli {

/// What a child process may use.
struct ProcessLimits {
  std::uint64_t address_space_bytes = std::uint64_t{16} << 30;  ///< LibTorch maps far more than it uses.
  std::uint64_t cpu_seconds = 300;
  /// From start to end, also while it computes nothing; 0: twice the CPU time.
  std::chrono::milliseconds time{0};
  std::uint64_t file_bytes = std::uint64_t{1} << 30;
};

/// The program of that name beside this one. @return not_found.
Result<std::filesystem::path> sibling_program(const std::string& name);

/// Runs a program to its end under limits, without core dumps, without the admin token in its environment,
/// and ended with this process. Its standard error is read; standard output goes where ours goes. Call it
/// while this process has one thread.
/// @return invalid if it ended with status 2, else refused, each with its last line, or with the limit that
/// ended it; internal if it could not be started.
Status run_limited(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                   const ProcessLimits& limits = {});

}  // namespace rivulet::cli
