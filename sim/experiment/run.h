#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "sim/experiment/fleet_data.h"

namespace rivulet::sim {

/// A line of rounds.jsonl.
struct RoundLine {
  std::uint64_t round = 0;
  std::string state;    ///< "published", "refused" or "failed".
  double accuracy = 0;  ///< On the test split, of the version that is in service after the round.
  double loss = 0;
  std::uint64_t version = 0;
  std::uint64_t invited = 0;
  std::uint64_t participants = 0;    ///< Nodes whose update was accepted.
  std::uint64_t upload_bytes = 0;    ///< Content since the last line; the first line has the joining too, and
  std::uint64_t download_bytes = 0;  ///< the last one what it takes until all nodes serve the last version.
  double virtual_seconds = 0;        ///< From the first round's start to this one's end.
  double sparsity = 0;               ///< To which that version is pruned.
  std::uint64_t snapshot_bytes = 0;  ///< It travels in so many.
  bool prunes = false;               ///< Whether the experiment does; else the two above are not written.
};

struct RunOptions {
  std::filesystem::path folder;  ///< Gets rounds.jsonl, summary.json, model.npz and perhaps test.csv.
  std::size_t threads = 1;       ///< That compute; changes no byte of rounds.jsonl.
  std::function<void(const RoundLine&)> on_round;  ///< May be empty.
  bool replace = false;                            ///< What another experiment left in the folder.
};

struct RunSummary {
  std::uint64_t rounds = 0;
  double final_accuracy = 0;
  double final_loss = 0;
  double best_accuracy = 0;
  std::uint64_t upload_bytes = 0;
  std::uint64_t download_bytes = 0;
  std::uint64_t updates = 0;
  double virtual_seconds = 0;
  std::uint64_t snapshot_bytes = 0;  ///< Of the last version.
  double wall_seconds = 0;           ///< Since the process began.
  std::string stopped;               ///< Why the schedule stopped before all rounds had run; or empty.
};

/// Runs an experiment to its end and writes what came of it. use_one_thread() was called before.
/// @return storage; invalid for a network that does not fit the data, or a folder with another experiment's
/// results; what went wrong in the fleet.
Result<RunSummary> run_experiment(const Experiment& experiment, const FleetData& data,
                                  const RunOptions& options);

}  // namespace rivulet::sim
