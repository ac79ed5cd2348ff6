#include "sim/experiment/experiment.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "config/toml_reader.h"
#include "coordinator/config/sections.h"
#include "models/dataset/partition.h"
#include "models/package/model_keys.h"
#include "models/package/release.h"
#include "protocol/sha256.h"
#include "sim/experiment/bundled.h"

namespace rivulet::sim {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t nodes_max = 1'000'000;

/// Whether a file that was named is there.
void expect_file(TomlReader& in, std::string_view key, const fs::path& file) {
  std::error_code ignored;  // What cannot be looked at is not there.
  if (!file.empty() && !fs::is_regular_file(file, ignored)) in.reject(key, "names no file: " + file.string());
}

void read_data(TomlReader in, DataConfig& data) {
  const std::string source = in.choice("source", "digits", {"digits", "idx", "csv"});
  data.source = source == "idx" ? DataSource::idx : source == "csv" ? DataSource::csv : DataSource::digits;
  data.path = in.path("path", "");
  data.label_path = in.path("label_path", "");
  data.label = in.text("label", "label");
  data.test_path = in.path("test_path", "");
  data.test_label_path = in.path("test_label_path", "");
  data.test_fraction = in.number("test_fraction", data.test_fraction, 0.001, 0.9);
  data.central_fraction = in.number("central_fraction", data.central_fraction, 0.001, 0.9);
  data.holdout_fraction = in.number("holdout_fraction", data.holdout_fraction, 0.001, 0.9);
  const std::string partition = in.choice("partition", "iid", {"iid", "shards", "dirichlet", "natural"});
  data.partition = partition == "shards"      ? PartitionKind::shards
                   : partition == "dirichlet" ? PartitionKind::dirichlet
                   : partition == "natural"   ? PartitionKind::natural
                                              : PartitionKind::iid;
  data.alpha = in.number("alpha", data.alpha, dirichlet_alpha_min, dirichlet_alpha_max);
  data.shards_per_node = static_cast<std::size_t>(in.integer("shards_per_node", 2, 1, nodes_max));
  data.column = in.text("column", "");
  const bool has_file = data.source != DataSource::digits;
  data.place = in.where(has_file ? "path" : "source");
  if (has_file) in.require("path");
  if (!has_file && in.has("path"))
    in.reject("path", "belongs to the sources idx and csv: the digits are in the program");
  if (!has_file && in.has("test_path")) in.reject("test_path", "belongs to the sources idx and csv");
  expect_file(in, "path", data.path);
  expect_file(in, "label_path", data.label_path);
  expect_file(in, "test_path", data.test_path);
  expect_file(in, "test_label_path", data.test_label_path);
  if (data.test_path.empty() && data.test_fraction + data.central_fraction > 0.95) {
    in.reject("test_fraction", "leaves nothing to train on beside central_fraction");
  }
  const bool natural = data.partition == PartitionKind::natural;
  if (natural && data.source != DataSource::csv) in.reject("partition", "\"natural\" needs the source csv");
  if (natural && data.column.empty()) in.require("column");
}

void read_fleet(TomlReader in, const DataConfig& data, FleetConfig& fleet) {
  fleet.nodes =
      static_cast<std::size_t>(in.integer("nodes", static_cast<std::int64_t>(fleet.nodes), 1, nodes_max));
  if (data.partition == PartitionKind::natural && in.has("nodes")) {
    in.reject("nodes", "follows from the data with the partition \"natural\": leave it out");
  }
  fleet.samples_per_second = in.number("samples_per_second", fleet.samples_per_second, 1e-3, 1e12);
  fleet.bytes_per_second = in.number("bytes_per_second", fleet.bytes_per_second, 2048, 1e12);
  fleet.latency = std::chrono::milliseconds(in.integer("latency_ms", fleet.latency.count(), 0, 10'000));
  fleet.spread = in.number("spread", fleet.spread, 1, 1000);
}

void read_input(TomlReader in, Experiment& experiment) {
  experiment.architecture.input_shape = read_shape(in, {});
  const auto floats = [&](const char* key, double otherwise) {
    constexpr double float_max = std::numeric_limits<float>::max();
    std::vector<float> narrow;
    for (const double value : in.numbers(key, {otherwise}, -float_max, float_max))
      narrow.push_back(static_cast<float>(value));
    return narrow;
  };
  const double scale = experiment.data.source == DataSource::digits ? 16.0 : 1.0;
  experiment.preprocessing = Preprocessing{floats("mean", 0.0), floats("scale", scale)};
  if (std::ranges::count(experiment.preprocessing->scale, 0.0F) > 0)
    in.reject("scale", "must not be 0: it divides");
}

void read_version(TomlReader in, Experiment& experiment) {
  experiment.snapshot =
      in.choice("snapshot", "int8", {"fp32", "int8"}) == "int8" ? SnapshotForm::int8 : SnapshotForm::fp32;
  experiment.variants = in.texts("variants", experiment.variants);
  const bool known = std::ranges::all_of(experiment.variants, [](const std::string& variant) {
    return std::ranges::find(known_recipes, variant) != known_recipes.end();
  });
  if (experiment.variants.empty() || !known)
    in.reject("variants", "must be of \"fp32\" and \"int8\", at least one");
}

Result<Experiment> read(TomlReader root, const Overrides& overrides) {
  for (const auto& [key, value] : overrides) {
    if (const Status status = root.set(key, value); !status) return std::unexpected(status.error());
  }
  Experiment experiment;
  experiment.seed = static_cast<std::uint64_t>(root.integer("seed", 1));
  read_data(root.table("data"), experiment.data);
  read_fleet(root.table("fleet"), experiment.data, experiment.fleet);
  TomlReader model = root.table("model");
  experiment.architecture = read_architecture(model);
  read_input(root.table("input"), experiment);
  read_version(root.table("version"), experiment);
  experiment.pruning = read_pruning(root.table("pruning"));
  if (experiment.pruning.sparsity > 0.0) experiment.snapshot = sparse_form(experiment.snapshot);

  coordinator::Config& config = experiment.coordinator;
  config.validation.mode = coordinator::ValidationMode::none;
  TomlReader round = root.table("round");
  experiment.rounds = static_cast<std::uint32_t>(round.integer("count", experiment.rounds, 1, 1'000'000));
  coordinator::read_round(round, config.round);
  coordinator::read_training(root.table("training"), config.training);
  coordinator::read_delta(root.table("delta"), config.delta);
  coordinator::read_aggregation(root.table("aggregation"), config.aggregation);
  coordinator::read_validation(root.table("validation"), config.validation);
  coordinator::read_limits(root.table("limits"), config.limits);
  coordinator::check_together(root, config);
  if (const Status status = root.finish(); !status) return std::unexpected(status.error());
  return experiment;
}

Digest id_of(std::string_view text, const Overrides& overrides) {
  std::string all(text);
  for (const auto& [key, value] : overrides) all += fmt::format("\n{}={}", key, value);
  return sha256(bytes_of(all));
}

std::string names_of_bundled() {
  std::string names;
  for (const Bundled& bundled : bundled_experiments())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", bundled.name);
  return names;
}

}  // namespace

Result<Experiment> parse_experiment(std::string_view text, const fs::path& source,
                                    const Overrides& overrides) {
  auto reader = TomlReader::parse(text, source);
  if (!reader) return std::unexpected(reader.error());
  auto experiment = read(std::move(*reader), overrides);
  if (experiment) experiment->id = id_of(text, overrides);
  return experiment;
}

Result<Experiment> load_experiment(const std::string& file_or_name, const Overrides& overrides) {
  std::error_code ignored;  // What cannot be looked at is not there.
  if (fs::is_regular_file(file_or_name, ignored)) {
    auto reader = TomlReader::read_file(file_or_name);
    if (!reader) return std::unexpected(reader.error());
    std::ifstream file(file_or_name, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    return parse_experiment(text, file_or_name, overrides);
  }
  for (const Bundled& bundled : bundled_experiments()) {
    if (bundled.name != file_or_name) continue;
    const char* data = std::getenv("RIVULET_DATA");
    auto experiment = parse_experiment(
        bundled.text, fs::path(data == nullptr ? "" : data) / (file_or_name + ".toml"), overrides);
    if (!experiment && data == nullptr &&
        experiment.error().detail.find("names no file") != std::string::npos) {
      experiment.error().detail += "; RIVULET_DATA names the folder of data sets";
    }
    return experiment;
  }
  return fail(Errc::not_found, fmt::format("'{}' is neither a file nor a bundled experiment ({})",
                                           file_or_name, names_of_bundled()));
}

}  // namespace rivulet::sim
