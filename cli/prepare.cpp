#include "cli/prepare.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/writes_nothing.h"
#include "models/dataset/dataset.h"
#include "models/package/known_inputs.h"
#include "models/package/snapshot.h"
#include "models/runtime/model.h"
#include "models/runtime/preprocessing.h"
#include "models/runtime/release_model.h"
#include "models/runtime/torchscript/archive.h"
#include "models/runtime/torchscript/trial.h"
#include "models/runtime/training.h"
#include "protocol/content.h"
#include "protocol/rng.h"
#include "storage/file.h"

namespace rivulet::cli {
namespace {

constexpr std::uint64_t known_inputs_stream = 1;
/// A step so small that only a network that is wrong from the start breaks under it.
constexpr double trial_learning_rate = 1e-3;

/// The column of a CSV that holds the labels, unless the specification names one.
constexpr const char* default_label = "label";

Result<LabelledSamples> read_samples(const ModelSpec& spec, const ModelSpec::Labelled& from,
                                     const char* section) {
  const auto format = format_of(from.path);
  if (!format) return std::unexpected(format.error());
  SampleOptions options;
  // IDX has a file of labels beside it, and an anomaly model needs none: only what was written counts there.
  const bool optional = *format == SampleFormat::idx || spec.task == TaskKind::anomaly;
  options.label = from.label.value_or(optional ? "" : default_label);
  auto data = load_dataset(from.path, *format, options, LabelRule{spec.task, spec.classes});
  if (!data) return fail_at(fmt::format("[{}]", section), data.error());
  if (data->sample_size() != spec.architecture.input_size()) {
    return fail(
        Errc::invalid,
        fmt::format("[{}] {}: its samples have {} numbers beside the label, but [input] shape has "
                    "{}: mend the shape, or name the label's column",
                    section, from.path.string(), data->sample_size(), spec.architecture.input_size()));
  }
  const std::size_t count = data->size();
  LabelledSamples samples{std::move(data->inputs), std::move(data->labels), std::move(data->targets)};
  if (spec.task != TaskKind::classification) samples.labels.assign(count, 0);
  return samples;
}

/// One value for each input, from the short forms that Preprocessing allows.
std::vector<float> spread(const std::vector<float>& values, const Architecture& architecture) {
  const std::size_t size = architecture.input_size();
  if (values.size() == size) return values;
  std::vector<float> all(size);
  for (std::size_t i = 0; i < size; ++i) all[i] = values[i * values.size() / size];
  return all;
}

struct Range {
  std::vector<float> low;  ///< [input_size], as is high.
  std::vector<float> high;
};

Range input_range(const ModelSpec& spec, const PreparedModel& model) {
  Range range;
  for (const auto* samples : {&model.holdout, &model.test}) {
    if (!*samples) continue;
    const auto& inputs = (*samples)->inputs;
    const std::size_t size = spec.architecture.input_size();
    if (range.low.empty()) {
      range.low.assign(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(size));
      range.high = range.low;
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      range.low[i % size] = std::min(range.low[i % size], inputs[i]);
      range.high[i % size] = std::max(range.high[i % size], inputs[i]);
    }
  }
  if (!range.low.empty()) return range;
  range.low = spread(spec.preprocessing.mean, spec.architecture);
  range.high = range.low;
  const std::vector<float> scale = spread(spec.preprocessing.scale, spec.architecture);
  for (std::size_t i = 0; i < scale.size(); ++i) {
    range.low[i] -= std::abs(scale[i]);
    range.high[i] += std::abs(scale[i]);
  }
  return range;
}

std::vector<float> draw_known_inputs(const Range& range, std::uint64_t seed) {
  Rng rng(derive_seed(seed, known_inputs_stream));
  std::vector<float> inputs;
  for (std::size_t sample = 0; sample < known_inputs_count; ++sample) {
    for (std::size_t i = 0; i < range.low.size(); ++i) {
      const double low = range.low[i];
      inputs.push_back(static_cast<float>(low + (range.high[i] - low) * uniform_unit(rng)));
    }
  }
  return inputs;
}

struct BuiltNetwork {
  Model model;
  std::vector<float> weights;  ///< w_0
  Bytes graph;                 ///< Of a user's network, else empty.
};

/// A user's network begins with the weights in its file, a built-in one with those of the seed.
Result<BuiltNetwork> build_network(const ModelSpec& spec, std::uint64_t seed) {
  if (spec.architecture.kind != user_architecture) {
    auto model = Model::build(spec.architecture);
    if (!model) return std::unexpected(model.error());
    std::vector<float> weights = model->initial_weights(seed);
    return BuiltNetwork{std::move(*model), std::move(weights), {}};
  }
  const auto where = [&](const Error& error) { return fail_at("[model] " + spec.graph.string(), error); };
  const auto file = read_file(spec.graph, torchscript::file_bytes_max);
  if (!file) return where(file.error());
  auto model = Model::build(spec.architecture, *file);
  if (!model) return where(model.error());
  auto graph = torchscript::graph_of(*file);
  if (!graph) return where(graph.error());
  std::vector<float> weights = model->weights();
  return BuiltNetwork{std::move(*model), std::move(weights), std::move(*graph)};
}

/// A forward and a backward pass from w_0 on the known inputs.
/// @param notes are added to.
Status try_out(Model& model, const Release& release, std::span<const float> weights,
               std::vector<std::string>& notes) {
  const auto preprocessor = Preprocessor::make(release.preprocessing, release.architecture.input_shape);
  if (!preprocessor) return std::unexpected(preprocessor.error());
  std::vector<float> inputs = release.known_inputs;
  preprocessor->apply(inputs);
  if (!std::ranges::all_of(inputs, [](float x) { return std::isfinite(x); })) {
    return fail(Errc::invalid,
                "[input] mean and scale turn samples into numbers that are not finite: mend them");
  }
  if (release.architecture.kind == user_architecture) {
    auto found = torchscript::try_network(model, release.task, inputs);
    if (!found) return fail_at("the network", found.error());
    notes = std::move(*found);
  }
  const auto outputs = static_cast<std::size_t>(release.architecture.outputs);
  std::vector<std::int64_t> labels;
  for (std::size_t i = 0; i < known_inputs_count; ++i)
    labels.push_back(static_cast<std::int64_t>(i % outputs));
  const std::vector<float> targets(known_inputs_count * outputs, 0.0F);
  TrainingData data{.inputs = inputs, .task = release.task, .loss = release.loss};
  if (release.task == TaskKind::classification) data.labels = labels;
  if (release.task == TaskKind::regression) data.targets = targets;
  const TrainingParameters parameters{.batch_size = known_inputs_count, .learning_rate = trial_learning_rate};
  const auto outcome = train(model, weights, data, parameters);
  if (!outcome) return fail_at("the network does not train", outcome.error());
  if (outcome->end == TrainingEnd::finished) return {};
  return fail(Errc::invalid, "the first training step gave numbers that are not finite (" + outcome->detail +
                                 "): mend [input] mean and scale");
}

/// So many of the known inputs that every version's manifest can hold the answers to them.
Status keep_known_inputs(Release& release) {
  const std::size_t most = known_inputs_max(release);
  if (most == 0) {
    return fail(
        Errc::invalid,
        fmt::format("[task] the answers to a known input, {} values for each of {}, are more than the "
                    "manifest of a version holds: {}",
                    release.architecture.outputs, fmt::join(release.recipes, " and "),
                    release.recipes.size() > 1 ? "name fewer [version] variants, or fewer outputs"
                                               : "name fewer outputs"));
  }
  release.known_inputs.resize(std::min(most, known_inputs_count) * release.architecture.input_size());
  return {};
}

Release describe(const ModelSpec& spec, const PrepareOptions& options) {
  Release release;
  release.fleet = options.fleet;
  release.name = spec.name;
  release.architecture = spec.architecture;
  release.task = spec.task;
  release.loss = spec.loss;
  release.classes = spec.classes;
  release.preprocessing = spec.preprocessing;
  release.snapshot = spec.snapshot;
  release.pruning = spec.pruning;
  release.recipes = spec.recipes;
  release.batch_norm = spec.batch_norm;
  release.limits.min_interval = spec.limits.min_interval;
  release.limits.expires = options.created + spec.limits.expires;
  release.created = options.created;
  release.epoch = options.epoch;
  return release;
}

/// @param prepared has the samples, and gets all else. Reads, builds and tries the network.
Status prepare_network(const ModelSpec& spec, const PrepareOptions& options, PreparedModel& prepared) {
  auto network = build_network(spec, options.seed);
  if (!network) return std::unexpected(network.error());
  Model& model = network->model;
  prepared.weights = std::move(network->weights);

  Release release = describe(spec, options);
  release.layout = model.layout();
  release.graph = std::move(network->graph);
  begin_with(release, prepared.weights, spec.limits.max_distance);
  release.known_inputs = draw_known_inputs(input_range(spec, prepared), options.seed);
  if (Status status = check(release); !status) return status;
  if (Status status = try_out(model, release, prepared.weights, prepared.notes); !status) return status;
  if (Status fits = keep_known_inputs(release); !fits) return fits;
  prepared.release = encode(release);
  return {};
}

/// What the outputs mean, and how samples become inputs.
std::string notes_on(const Release& release) {
  static constexpr std::array<const char*, 3> tasks = {"classification", "regression", "anomaly"};
  const nlohmann::json text = {
      {"name", release.name},
      {"task", tasks.at(static_cast<std::size_t>(release.task))},
      {"classes", release.classes},
      {"preprocessing", {{"mean", release.preprocessing.mean}, {"scale", release.preprocessing.scale}}}};
  return text.dump();
}

}  // namespace

Result<PreparedModel> prepare_model(const ModelSpec& spec, const PrepareOptions& options) {
  PreparedModel prepared;
  for (const auto& [from, to, section] : {std::tuple{&spec.holdout, &prepared.holdout, "holdout"},
                                          std::tuple{&spec.test, &prepared.test, "test"}}) {
    if (!*from) continue;
    auto samples = read_samples(spec, **from, section);
    if (!samples) return std::unexpected(samples.error());
    *to = std::move(*samples);
  }
  const Status status = without_writing([&] { return prepare_network(spec, options, prepared); });
  if (!status) return std::unexpected(status.error());
  return prepared;
}

Result<Bytes> export_torchscript(const Release& release, std::span<const float> weights) {
  return without_writing([&]() -> Result<Bytes> {
    auto model = build_model(release);
    if (!model) return std::unexpected(model.error());
    if (const Status status = model->set_weights(weights); !status) return std::unexpected(status.error());
    return model->to_torchscript({{"rivulet.json", notes_on(release)}});
  });
}

}  // namespace rivulet::cli
