#include "sim/experiment/fleet_data.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "models/dataset/dataset.h"
#include "models/dataset/partition.h"
#include "models/runtime/preprocessing.h"
#include "protocol/rng.h"

namespace rivulet::sim {
namespace {

/// What the experiment's seed is split for.
enum Label : std::uint64_t { split_label = 201, partition_label = 202, holdout_label = 203 };

Result<Dataset> load(const DataConfig& data, const std::filesystem::path& file,
                     const std::filesystem::path& labels, std::vector<std::string> classes) {
  if (data.source == DataSource::digits) return embedded_digits();
  const bool csv = data.source == DataSource::csv;
  const SampleOptions options{
      .label = csv ? data.label : labels.string(), .group = data.column, .ignore = {}, .scale_bytes = true};
  return load_dataset(file, csv ? SampleFormat::csv : SampleFormat::idx, options,
                      {TaskKind::classification, std::move(classes)});
}

coordinator::ScoringData scoring_data(const Dataset& dataset, std::span<const std::size_t> indices) {
  coordinator::ScoringData data;
  for (const std::size_t index : indices) {
    const auto sample = dataset.sample(index);
    data.inputs.insert(data.inputs.end(), sample.begin(), sample.end());
    data.labels.push_back(dataset.labels[index]);
  }
  return data;
}

Result<Partition> deal(const Experiment& experiment, const Dataset& dataset,
                       std::span<const std::size_t> pool) {
  const DataConfig& data = experiment.data;
  Rng rng(derive_seed(experiment.seed, partition_label));
  std::vector<std::int64_t> labels;
  for (const std::size_t index : pool) labels.push_back(dataset.labels[index]);
  switch (data.partition) {
    case PartitionKind::iid: return partition_iid(pool.size(), experiment.fleet.nodes, rng);
    case PartitionKind::shards:
      return partition_shards(labels, experiment.fleet.nodes, data.shards_per_node, rng);
    case PartitionKind::dirichlet:
      return partition_dirichlet(labels, experiment.fleet.nodes, data.alpha, rng);
    case PartitionKind::natural: break;
  }
  // Groups all of whose samples are in the test split have none to train on: numbers without gaps.
  std::vector<std::uint32_t> known;
  for (const std::size_t index : pool) known.push_back(dataset.groups[index]);
  std::ranges::sort(known);
  known.erase(std::ranges::unique(known).begin(), known.end());
  std::vector<std::uint32_t> groups;
  for (const std::size_t index : pool) {
    groups.push_back(
        static_cast<std::uint32_t>(std::ranges::lower_bound(known, dataset.groups[index]) - known.begin()));
  }
  return partition_natural(groups);
}

/// A node's samples, `fraction` of them held out.
NodeSamples node_samples(const Dataset& dataset, std::vector<std::size_t> indices, double fraction, Rng& rng,
                         const Preprocessor& preprocessor) {
  std::size_t held_out = 0;
  if (fraction > 0) {
    shuffle(std::span(indices), rng);
    held_out = std::min(static_cast<std::size_t>(fraction * static_cast<double>(indices.size())),
                        indices.size() - 1);
  }
  NodeSamples samples;
  for (std::size_t k = 0; k < indices.size(); ++k) {
    const auto sample = dataset.sample(indices[k]);
    auto& inputs = k < held_out ? samples.holdout_inputs : samples.inputs;
    inputs.insert(inputs.end(), sample.begin(), sample.end());
    (k < held_out ? samples.holdout_labels : samples.labels).push_back(dataset.labels[indices[k]]);
  }
  samples.inputs.shrink_to_fit();
  preprocessor.apply(samples.inputs);
  preprocessor.apply(samples.holdout_inputs);
  return samples;
}

}  // namespace

Result<FleetData> load_fleet_data(const Experiment& experiment) {
  using coordinator::ValidationMode;
  const DataConfig& config = experiment.data;
  const ValidationMode mode = experiment.coordinator.validation.mode;
  const bool central = mode == ValidationMode::central || mode == ValidationMode::both;
  const bool federated = mode == ValidationMode::federated || mode == ValidationMode::both;
  const auto dataset = load(config, config.path, config.label_path, {});
  if (!dataset) return fail_at(config.place, dataset.error());
  if (dataset->classes.size() < 2)
    return fail(Errc::invalid, config.place + ": the samples are all of one class");

  FleetData data;
  data.sample_size = dataset->sample_size();
  data.classes = dataset->classes;
  data.preprocessing = experiment.preprocessing.value_or(Preprocessing{});
  const Architecture& architecture = experiment.architecture;
  data.shape = architecture.input_shape;
  if (data.shape.empty()) data.shape = {static_cast<std::int64_t>(data.sample_size)};
  if (!architecture.input_shape.empty() && architecture.input_size() != data.sample_size) {
    return fail(Errc::invalid, fmt::format("input.shape has {} numbers, but {}: a sample has {}",
                                           architecture.input_size(), config.place, data.sample_size));
  }
  const auto preprocessor = Preprocessor::make(data.preprocessing, data.shape);
  if (!preprocessor) return fail_at("[input]", preprocessor.error());

  std::vector<std::size_t> order(dataset->size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Rng split(derive_seed(experiment.seed, split_label));
  shuffle(std::span(order), split);
  std::span<const std::size_t> rest = order;
  const auto take = [&](double fraction) {
    const auto count =
        std::max<std::size_t>(1, static_cast<std::size_t>(fraction * static_cast<double>(order.size())));
    const auto taken = rest.first(std::min(count, rest.size()));
    rest = rest.subspan(taken.size());
    return scoring_data(*dataset, taken);
  };
  if (config.test_path.empty()) {
    data.test = take(config.test_fraction);
    data.test_was_drawn = true;
  } else {
    const auto test = load(config, config.test_path, config.test_label_path, data.classes);
    if (!test) return fail_at("data.test_path", test.error());
    if (test->sample_size() != data.sample_size) {
      return fail(Errc::invalid, "data.test_path: its samples have another size than those of data.path");
    }
    data.test = {test->inputs, test->labels};
  }
  if (central) data.holdout = take(config.central_fraction);

  const auto partition = deal(experiment, *dataset, rest);
  if (!partition) return fail_at("[data] partition", partition.error());
  Rng held_out(derive_seed(experiment.seed, holdout_label));
  for (const auto& members : *partition) {
    std::vector<std::size_t> indices;
    for (const std::size_t member : members) indices.push_back(rest[member]);
    data.nodes.push_back(node_samples(*dataset, std::move(indices), federated ? config.holdout_fraction : 0.0,
                                      held_out, *preprocessor));
  }
  return data;
}

}  // namespace rivulet::sim
