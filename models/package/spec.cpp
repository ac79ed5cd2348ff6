#include "models/package/spec.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/toml_reader.h"
#include "models/package/release.h"

namespace rivulet {
namespace {

constexpr std::int64_t dimension_max = 1 << 20;
constexpr double float_max = std::numeric_limits<float>::max();

void read_model(TomlReader model, Architecture& architecture) {
  architecture.kind = model.choice("architecture", "mlp", {"mlp", "mcmahan_cnn"});
  const bool is_mlp = architecture.kind == "mlp";
  std::vector<std::int64_t> otherwise;
  if (is_mlp) otherwise = {200, 200};
  architecture.hidden = model.integers("hidden", std::move(otherwise), 1, dimension_max);
  if (!is_mlp && model.has("hidden")) {
    model.reject("hidden", fmt::format("belongs to an mlp; the layers of {} are fixed", architecture.kind));
  }
  if (architecture.hidden.size() > 64) model.reject("hidden", "has more than 64 layers");
}

void read_input(TomlReader input, ModelSpec& spec) {
  Architecture& architecture = spec.architecture;
  const bool is_cnn = architecture.kind == "mcmahan_cnn";
  const std::vector<std::int64_t> image = {1, 28, 28};
  if (!is_cnn) input.require("shape");
  architecture.input_shape =
      input.integers("shape", is_cnn ? image : std::vector<std::int64_t>{1}, 1, dimension_max);
  if (is_cnn && architecture.input_shape != image &&
      architecture.input_shape != std::vector<std::int64_t>{784}) {
    input.reject("shape", "must be [1, 28, 28] or [784] for mcmahan_cnn");
  }
  if (architecture.input_shape.empty()) {
    input.reject("shape", "must have at least one dimension");
    architecture.input_shape = {1};
  }
  std::int64_t size = 1;
  for (const std::int64_t dimension : architecture.input_shape) {
    if (dimension < 1 || dimension > dimension_max / size) {
      input.reject("shape", fmt::format("has more than {} numbers", dimension_max));
      architecture.input_shape = {1};
      break;
    }
    size *= dimension;
  }
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
    const Status sound = check(one, architecture.input_shape);
    if (!sound) input.reject(key, "is wrong: " + sound.error().detail);
  }
}

void read_task(TomlReader task, ModelSpec& spec) {
  const std::string kind = task.choice("kind", "classification", {"classification", "regression", "anomaly"});
  spec.task = kind == "classification" ? TaskKind::classification
              : kind == "regression"   ? TaskKind::regression
                                       : TaskKind::anomaly;
  spec.classes = task.texts("classes", {});
  std::int64_t outputs = 1;
  if (spec.task == TaskKind::anomaly) outputs = static_cast<std::int64_t>(spec.architecture.input_size());
  spec.architecture.outputs = task.integer("outputs", outputs, 1, dimension_max);
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
  ModelSpec::Labelled labelled{reader.path("path", ""), reader.text("label", "label")};
  if (labelled.label.empty()) reader.reject("label", "must not be empty");
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
  read_model(toml->table("model"), spec.architecture);
  read_input(toml->table("input"), spec);
  read_task(toml->table("task"), spec);
  spec.holdout = read_labelled(*toml, "holdout");
  spec.test = read_labelled(*toml, "test");
  read_version(toml->table("version"), spec);
  read_limits(toml->table("limits"), spec.limits);
  if (const Status read = toml->finish(); !read) return std::unexpected(read.error());
  return spec;
}

}  // namespace rivulet
