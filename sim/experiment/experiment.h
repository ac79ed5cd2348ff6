#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/config.h"
#include "models/package/architecture.h"
#include "models/package/preprocessing.h"
#include "models/package/pruning.h"
#include "models/package/snapshot.h"
#include "protocol/ids.h"
#include "protocol/result.h"

namespace rivulet::sim {

enum class DataSource : std::uint8_t { digits, idx, csv };
enum class PartitionKind : std::uint8_t { iid, shards, dirichlet, natural };

/// [data] Which samples there are, and who has them.
struct DataConfig {
  DataSource source = DataSource::digits;
  std::filesystem::path path;        ///< Of the training samples; of digits none.
  std::filesystem::path label_path;  ///< idx; empty: beside the images by its usual name.
  std::string label;                 ///< csv: the column.
  std::filesystem::path test_path;   ///< Never gates; empty: test_fraction of `path`.
  std::filesystem::path test_label_path;
  double test_fraction = 0.2;
  double central_fraction = 0.1;  ///< Held out by the coordinator, if validation asks for that.
  double holdout_fraction = 0.1;  ///< Of each node's samples, held out if validation is federated.
  PartitionKind partition = PartitionKind::iid;
  double alpha = 0.3;               ///< dirichlet
  std::size_t shards_per_node = 2;  ///< shards
  std::string column;               ///< natural: a csv's column that tells the clients apart.
  std::string place;                ///< "file:line: data.path", for errors in the files.
};

/// [fleet] What the devices are. The i-th draws how fast it is, and how fast its link is: each within
/// a factor `spread` of the value here, either way, log-uniformly.
struct FleetConfig {
  std::size_t nodes = 100;           ///< natural: follows from the data.
  double samples_per_second = 1000;  ///< In training; scoring is three times as fast.
  double bytes_per_second = 1e6;
  std::chrono::milliseconds latency{20};
  double spread = 2;
};

/// One experiment; experiment files have its sections and keys.
struct Experiment {
  Digest id;  ///< SHA-256 of its text and what was set on top: equal for equal experiments.
  std::uint64_t seed = 1;
  DataConfig data;
  FleetConfig fleet;
  /// [model], and [input] shape: empty if the samples are flat. The outputs are the data's classes.
  Architecture architecture = default_architecture("mlp");
  std::optional<Preprocessing> preprocessing;  ///< [input] mean, scale; digits have 0 and 16 by default.
  SnapshotForm snapshot = SnapshotForm::int8;  ///< [version]; sparse if there is pruning.
  PruningPlan pruning;                         ///< [pruning]
  std::vector<std::string> variants{"fp32", "int8"};
  std::uint32_t rounds = 50;        ///< [round] count
  coordinator::Config coordinator;  ///< [round] [training] [delta] [aggregation] [validation] [limits]
};

using Overrides = std::vector<std::pair<std::string, std::string>>;

/// Reads a file, or the bundled experiment of that name. Relative paths are taken from the file's
/// folder, those of a bundled experiment from the folder that RIVULET_DATA names. The defaults of the
/// coordinator's sections are the daemon's, but for [validation] mode, which is "none": a curve is the
/// algorithm's, unless a gate is asked for.
/// @param overrides dotted keys with values, as `--set` has them.
/// @return not_found; invalid with file, line and key.
Result<Experiment> load_experiment(const std::string& file_or_name, const Overrides& overrides);
/// The same from text. @param source stands in errors, and relative paths are relative to its folder.
Result<Experiment> parse_experiment(std::string_view text, const std::filesystem::path& source,
                                    const Overrides& overrides);

}  // namespace rivulet::sim
