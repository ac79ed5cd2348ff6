#include "models/package/spec.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/toml_reader.h"
#include "models/package/model_keys.h"
#include "models/package/release.h"

namespace rivulet {
namespace {

constexpr std::int64_t dimension_max = 1 << 20;
constexpr double float_max = std::numeric_limits<float>::max();

/// A network that the user brings has a file in place of the keys that the built-in ones have.
void read_model(TomlReader model, ModelSpec& spec) {
  spec.architecture = read_architecture(model, /*user=*/true);
  if (spec.architecture.kind != user_architecture) {
    if (model.has("path")) model.reject("path", "belongs to architecture = \"torchscript\"");
  } else {
    model.require("path");
    spec.graph = model.path("path", "");
  }
  const bool may_have_norms =
      spec.architecture.kind == user_architecture || spec.architecture.kind == "mobilenet_v2";
  if (!may_have_norms) {
    if (model.has("batch_norm"))
      model.reject("batch_norm", "belongs to architecture = \"torchscript\" or \"mobilenet_v2\"");
    return;
  }
  const bool local = model.choice("batch_norm", "averaged", {"averaged", "local"}) == "local";
  spec.batch_norm = local ? BatchNorm::local : BatchNorm::averaged;
}

void read_input(TomlReader input, ModelSpec& spec) {
  const bool is_mcmahan = spec.architecture.kind == "mcmahan_cnn";
  if (!is_mcmahan) input.require("shape");
  spec.architecture.input_shape =
      read_shape(input, is_mcmahan ? std::vector<std::int64_t>{1, 28, 28} : std::vector<std::int64_t>{1});
  const auto floats = [&](const char* key, double otherwise) {
    const auto values = input.numbers(key, {otherwise}, -float_max, float_max);
    std::vector<float> narrow;
    for (const double value : values) narrow.push_back(static_cast<float>(value));
    return narrow;
  };
  spec.preprocessing.mean = floats("mean", 0.0);
  spec.preprocessing.scale = floats("scale", 1.0);
  for (const char* key : {"mean", "scale"}) {
    // One of the two at a time, so that the error names the right line.
    Preprocessing one;
    (*key == 'm' ? one.mean : one.scale) = *key == 'm' ? spec.preprocessing.mean : spec.preprocessing.scale;
    const Status sound = check(one, spec.architecture.input_shape);
    if (!sound) input.reject(key, "is wrong: " + sound.error().detail);
  }
}

/// Where a task has one loss alone, naming it changes nothing.
void read_loss(TomlReader& task, ModelSpec& spec) {
  std::vector<std::string> losses = {"mse"};
  if (spec.task == TaskKind::classification) losses = {"cross_entropy"};
  if (spec.task == TaskKind::regression) losses = {"mse", "huber", "mae"};  // As RegressionLoss counts.
  const std::string loss = task.choice("loss", losses.front(), losses);
  spec.loss = static_cast<RegressionLoss>(std::ranges::find(losses, loss) - losses.begin());
}

void read_task(TomlReader task, ModelSpec& spec) {
  const std::string kind = task.choice("kind", "classification", {"classification", "regression", "anomaly"});
  spec.task = kind == "classification" ? TaskKind::classification
              : kind == "regression"   ? TaskKind::regression
                                       : TaskKind::anomaly;
  read_loss(task, spec);
  spec.classes = task.texts("classes", {});
  std::int64_t outputs = 1;
  if (spec.task == TaskKind::anomaly) outputs = static_cast<std::int64_t>(spec.architecture.input_size());
  spec.architecture.outputs = task.integer("outputs", outputs, 1, dimension_max);
  if (spec.task == TaskKind::regression && spec.architecture.outputs != 1)
    task.reject("outputs", "must be 1 in a regression: the label of a sample is one number");
  if (spec.task != TaskKind::classification) {
    if (task.has("classes"))
      task.reject("classes", fmt::format("belongs to a classification, not to a {}", kind));
    return;
  }
  task.require("classes");
  if (task.has("outputs"))
    task.reject("outputs", "is the number of classes in a classification: leave it out");
  if (task.has("classes") && spec.classes.size() < 2) task.reject("classes", "must name at least 2");
  std::vector<std::string> sorted = spec.classes;
  std::ranges::sort(sorted);
  if (std::ranges::adjacent_find(sorted) != sorted.end()) task.reject("classes", "names one twice");
  if (std::ranges::count(spec.classes, "") > 0) task.reject("classes", "has an empty name");
  spec.architecture.outputs = static_cast<std::int64_t>(spec.classes.size());
}

std::optional<ModelSpec::Labelled> read_labelled(TomlReader& toml, const char* section) {
  const bool present = toml.has(section);
  TomlReader reader = toml.table(section);
  if (present) reader.require("path");
  ModelSpec::Labelled labelled{.path = reader.path("path", "")};
  if (reader.has("label")) labelled.label = reader.text("label", "");
  if (labelled.label == "") reader.reject("label", "must not be empty");
  if (!present) return std::nullopt;
  return labelled;
}

void read_version(TomlReader version, ModelSpec& spec) {
  const bool int8 = version.choice("snapshot", "int8", {"fp32", "int8"}) == "int8";
  spec.snapshot = int8 ? SnapshotForm::int8 : SnapshotForm::fp32;
  spec.recipes = version.texts("variants", known_recipes);
  if (spec.recipes.empty()) version.reject("variants", "must name at least one, or nothing could be served");
  for (const std::string& recipe : spec.recipes) {
    if (std::ranges::find(known_recipes, recipe) == known_recipes.end()) {
      version.reject("variants", fmt::format("names '{}'; fp32 and int8 can be derived", recipe));
    }
    if (std::ranges::count(spec.recipes, recipe) > 1) {
      version.reject("variants", fmt::format("names '{}' twice", recipe));
    }
  }
}

void read_limits(TomlReader limits, ModelSpec::Limits& out) {
  out.max_distance = limits.number("max_distance", out.max_distance, 0.0);
  out.min_interval = std::chrono::seconds(limits.integer("min_interval_s", 0, 0, 36500LL * 86400));
  out.expires = limits.duration("expires", out.expires, std::chrono::seconds{1});
}

}  // namespace

Result<ModelSpec> load_model_spec(const std::filesystem::path& file) {
  auto toml = TomlReader::read_file(file);
  if (!toml) return std::unexpected(toml.error());
  ModelSpec spec;
  toml->require("name");
  spec.name = toml->text("name", "");
  if (const Status named = check_name(spec.name, "the model's name"); toml->has("name") && !named) {
    toml->reject("name", "is wrong: " + named.error().detail);
  }
  TomlReader model = toml->table("model");
  TomlReader input = toml->table("input");
  read_model(model, spec);
  read_input(input, spec);
  read_task(toml->table("task"), spec);
  const bool has_shape = input.has("shape") || spec.architecture.kind == "mcmahan_cnn";
  // What a user's network takes, its file alone knows.
  const bool is_built_in = spec.architecture.kind != user_architecture;
  if (const auto fault = is_built_in ? find_shape_fault(spec.architecture) : std::nullopt; has_shape && fault)
    (fault->section == "input" ? input : model).reject(fault->key, fault->why);
  spec.holdout = read_labelled(*toml, "holdout");
  spec.test = read_labelled(*toml, "test");
  for (const char* section : {"holdout", "test"}) {
    if (spec.batch_norm == BatchNorm::local && toml->has(section))
      toml->reject(
          section,
          "would be scored with statistics that no node uses, as model.batch_norm is \"local\": leave it "
          "out, nodes judge candidates on samples of their own");
  }
  read_version(toml->table("version"), spec);
  spec.pruning = read_pruning(toml->table("pruning"));
  if (spec.pruning.sparsity > 0.0) spec.snapshot = sparse_form(spec.snapshot);
  read_limits(toml->table("limits"), spec.limits);
  if (const Status read = toml->finish(); !read) return std::unexpected(read.error());
  return spec;
}

}  // namespace rivulet
