#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/work/model_runner.h"
#include "models/package/preprocessing.h"
#include "sim/experiment/experiment.h"

namespace rivulet::sim {

/// What one node holds, preprocessed.
struct NodeSamples {
  std::vector<float> inputs;         ///< [n * sample size]
  std::vector<std::int64_t> labels;  ///< [n]
  std::vector<float> holdout_inputs;
  std::vector<std::int64_t> holdout_labels;
};

/// An experiment's samples, dealt out. Every sample is in one place alone.
struct FleetData {
  std::size_t sample_size = 0;
  std::vector<std::int64_t> shape;  ///< Of one sample: the experiment's, or [sample_size].
  std::vector<std::string> classes;
  Preprocessing preprocessing;
  std::vector<NodeSamples> nodes;
  coordinator::ScoringData test;     ///< Raw; never gates.
  coordinator::ScoringData holdout;  ///< Raw, of the coordinator; empty unless validation asks for it.
  bool test_was_drawn = false;       ///< From the training file, by the seed.
};

/// The same experiment gives the same samples to the same nodes.
/// @return invalid, naming file and key, for samples that do not fit the experiment.
Result<FleetData> load_fleet_data(const Experiment& experiment);

}  // namespace rivulet::sim
