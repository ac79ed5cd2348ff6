#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/preprocessing.h"
#include "models/package/pruning.h"
#include "models/package/snapshot.h"
#include "protocol/result.h"

namespace rivulet {

/// A model specification: what an operator writes, and `rivulet model import` makes a release of.
struct ModelSpec {
  /// A labelled file beside the specification.
  struct Labelled {
    std::filesystem::path path;
    /// The column: a name or a 1-based index. Of IDX the file of labels. Nothing: what the format has.
    std::optional<std::string> label{};

    bool operator==(const Labelled&) const = default;
  };
  struct Limits {
    double max_distance = 0.0;  ///< L2 from w_0; 0: 10 * (norm of w_0 + 1).
    std::chrono::seconds min_interval{0};
    std::chrono::seconds expires = std::chrono::days{365};

    bool operator==(const Limits&) const = default;
  };

  std::string name;
  Architecture architecture;
  std::filesystem::path graph;  ///< Of an architecture "torchscript": the user's file.
  BatchNorm batch_norm = BatchNorm::averaged;
  TaskKind task = TaskKind::classification;
  RegressionLoss loss = RegressionLoss::squared;
  std::vector<std::string> classes;
  Preprocessing preprocessing;
  std::optional<Labelled> holdout;  ///< Gates.
  std::optional<Labelled> test;     ///< Is reported and never gates.

  SnapshotForm snapshot = SnapshotForm::int8;  ///< Sparse where versions are pruned.
  PruningPlan pruning;
  std::vector<std::string> recipes;
  Limits limits;

  bool operator==(const ModelSpec&) const = default;
};

/// Reads the TOML form that follows; paths are relative to the file's folder. Keys and defaults:
///   name                                    required: 1 to 64 letters, digits, '.', '_' or '-'
///   [model]   architecture = "mlp"          or another of architecture_kinds()
///             hidden, channels, kernel, pool, width, groups, resolution
///                                           as the kind has them, see default_architecture
///             path = "m.pt"                 of "torchscript": the file, whose weights are the first ones
///             batch_norm = "averaged"       of "torchscript" and "mobilenet_v2"; or "local"
///   [input]   shape                         required, except for mcmahan_cnn: [1, 28, 28]
///             mean = [0.0]  scale = [1.0]   one value, or one a feature or channel
///   [task]    kind = "classification"       or "regression", "anomaly"
///             classes                       required for a classification: 2 or more
///             outputs = 1                   of a regression, no more; of an anomaly model the input's size
///             loss                          "cross_entropy" of a classification, "mse" of an anomaly model;
///                                           of a regression "mse" (default), "huber" or "mae"
///   [holdout] path, label                   both sections are optional; of CSV the label is in the column
///   [test]    path, label                   "label" unless it is named, an anomaly model has none then
///   [version] snapshot = "int8"             or "fp32"
///             variants = ["fp32", "int8"]   which may be derived
///   [pruning] sparsity = 0.0                below 1: the part of the weights that is 0 in the end
///             begin = 0  rounds = 20        after how many published rounds it begins, and how many it takes
///   [limits]  max_distance = 0  min_interval_s = 0  expires = "365d"
/// @return invalid with file, line and key for a wrong, unknown, contradictory or missing key; what
/// TomlReader::read_file returns.
Result<ModelSpec> load_model_spec(const std::filesystem::path& file);

}  // namespace rivulet
