#pragma once

#include <string>
#include <vector>

#include "bench/fleet/board.h"
#include "bench/fleet/process.h"

namespace rivulet::bench {

/// The coordinator's process at the end of one phase of the run; the peak is the phase's.
struct Sample {
  std::string when;
  ProcessUse use;
};

/// What one run measured.
struct Findings {
  FleetCounts counts;
  std::uint32_t nodes = 0;
  std::uint64_t parameters = 0;
  std::uint64_t update_bytes = 0;
  std::vector<Sample> samples;   ///< In order; the last is after publication.
  double plain_seconds = 0;      ///< That plain writing of the same contents took.
  double fleet_cpu_seconds = 0;  ///< Of our own process, from the first task to the last receipt.
};

/// The coordinator's VmHWM over all phases.
std::uint64_t peak_memory(const Findings& findings);
/// What the coordinator may take in memory: six fp32 models, 250 MB, and 32 KiB a connection.
std::uint64_t memory_limit(const Findings& findings);
/// Whether every update had its receipt and verdict, a version came of them, and memory kept its limit.
bool passes(const Findings& findings);
/// Lines for a terminal.
std::string to_text(const Findings& findings);

}  // namespace rivulet::bench
