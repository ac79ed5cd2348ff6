#pragma once

#include <filesystem>
#include <string>

#include "sim/experiment/run.h"
#include "sim/experiment/virtual_fleet.h"

/// The files that an experiment leaves.
namespace rivulet::sim {

/// Makes the folder and takes the results of an earlier run out of it.
/// @param replace also results of another experiment. @return invalid if these are there; storage.
Status prepare_folder(const std::filesystem::path& folder, const Experiment& experiment, bool replace);

std::string to_json(const RoundLine& line);

/// The version in service: a float32 array per tensor by its layout name, and preprocessing.mean and
/// preprocessing.scale.
Status write_model(const std::filesystem::path& file, VirtualFleet& fleet,
                   const Preprocessing& preprocessing);
/// Raw samples, the class's name in the last column.
Status write_test(const std::filesystem::path& file, const FleetData& data);
Status write_summary(const std::filesystem::path& file, const Experiment& experiment, const FleetData& data,
                     const VirtualFleet& fleet, const RunSummary& summary);

/// Of the kernel's account, to 10 ms.
double seconds_since_process_start();
/// The most memory that the process has had resident.
std::uint64_t peak_memory_bytes();

}  // namespace rivulet::sim
