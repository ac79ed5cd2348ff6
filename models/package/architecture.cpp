#include "models/package/architecture.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "protocol/assert.h"

namespace rivulet {
namespace {

using Fault = std::optional<ArchitectureFault>;
using Shape = std::vector<std::int64_t>;

constexpr std::size_t layers_max = 64;
constexpr std::int64_t layer_max = 1 << 20;
constexpr std::int64_t kernel_max = 1023;
constexpr std::int64_t resnet_channels = 64;  // Of the first stage, at width 1.
constexpr double width_max = 16;
constexpr double mobilenet_width_min = 0.1;
constexpr double mobilenet_width_max = 4;
constexpr std::int64_t resolution_min = 32;  // MobileNetV2 halves an image five times.
constexpr std::int64_t resolution_max = 1024;

struct Kind {
  Architecture usual;  ///< With the kind's defaults.
  std::vector<std::string_view> keys;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {{.kind = "mlp", .hidden = {200, 200}}, {"hidden"}},
      {{.kind = "mcmahan_cnn"}, {}},
      {{.kind = "cnn", .hidden = {128}, .channels = {32, 64}, .kernel = 3, .pool = 2},
       {"channels", "kernel", "pool", "hidden"}},
      {{.kind = "cnn1d", .channels = {64, 64}, .kernel = 5, .pool = 2},
       {"channels", "kernel", "pool", "hidden"}},
      {{.kind = "gru", .hidden = {64}}, {"hidden"}},
      {{.kind = "autoencoder", .hidden = {64, 16}}, {"hidden"}},
      {{.kind = "resnet18", .width = 1, .groups = 2}, {"width", "groups"}},
      {{.kind = "mobilenet_v2", .width = 1}, {"width", "resolution"}},
  };
  return all;
}

const Kind& kind_of(std::string_view name) {
  const auto found = std::ranges::find(kinds(), name, [](const Kind& kind) { return kind.usual.kind; });
  RIVULET_ASSERT(found != kinds().end());
  return *found;
}

/// A field of [model]: its key, and whether an architecture has a value in it.
struct Field {
  std::string_view key;
  bool (*is_set)(const Architecture&);
};

constexpr Field fields[] = {
    {"hidden", [](const Architecture& a) { return !a.hidden.empty(); }},
    {"channels", [](const Architecture& a) { return !a.channels.empty(); }},
    {"kernel", [](const Architecture& a) { return a.kernel != 0; }},
    {"pool", [](const Architecture& a) { return a.pool != 0; }},
    {"width", [](const Architecture& a) { return a.width != 0; }},
    {"groups", [](const Architecture& a) { return a.groups != 0; }},
    {"resolution", [](const Architecture& a) { return a.resolution != 0; }},
};

std::string text_of(const std::vector<std::string_view>& keys) {
  std::string text;
  for (const std::string_view key : keys) text += (text.empty() ? "" : ", ") + std::string(key);
  return text.empty() ? "it has no keys" : "its keys are: " + text;
}

Fault model_fault(std::string_view key, std::string why) {
  return ArchitectureFault{"model", std::string(key), std::move(why)};
}

Fault find_size_fault(const char* key, const Shape& sizes, const char* what) {
  if (sizes.size() > layers_max) return model_fault(key, fmt::format("has more than {} layers", layers_max));
  for (const std::int64_t size : sizes)
    if (size < 1 || size > layer_max)
      return model_fault(key,
                         fmt::format("has an element of {}; a layer has 1 to {} {}", size, layer_max, what));
  return {};
}

Fault find_convolution_fault(const Architecture& architecture) {
  if (architecture.channels.empty()) return model_fault("channels", "must name at least one convolution");
  if (architecture.kernel < 1 || architecture.kernel > kernel_max || architecture.kernel % 2 == 0)
    return model_fault("kernel", fmt::format("is {}; it must be odd, so that padding keeps the size, and at "
                                             "most {}",
                                             architecture.kernel, kernel_max));
  if (architecture.pool < 1 || architecture.pool > kernel_max)
    return model_fault("pool",
                       fmt::format("is {}; it lies in 1 (no pooling) to {}", architecture.pool, kernel_max));
  return {};
}

Fault find_resnet_fault(const Architecture& architecture) {
  const double channels = resnet_channels * architecture.width;
  if (!(architecture.width > 0 && architecture.width <= width_max) || channels != std::floor(channels))
    return model_fault("width", fmt::format("is {}; it must be a multiple of 1/{} up to {}",
                                            architecture.width, resnet_channels, width_max));
  const auto first = static_cast<std::int64_t>(channels);
  if (architecture.groups < 1 || first % architecture.groups != 0)
    return model_fault("groups", fmt::format("is {}; it must divide the {} channels of the first stage",
                                             architecture.groups, first));
  return {};
}

Fault find_mobilenet_fault(const Architecture& architecture) {
  if (!(architecture.width >= mobilenet_width_min && architecture.width <= mobilenet_width_max))
    return model_fault("width", fmt::format("is {}; that of mobilenet_v2 lies in {} to {}",
                                            architecture.width, mobilenet_width_min, mobilenet_width_max));
  const std::int64_t resolution = architecture.resolution;
  if (resolution != 0 && (resolution < resolution_min || resolution > resolution_max))
    return model_fault("resolution", fmt::format("is {}; it lies in {} to {}, or is 0 for images as they are",
                                                 resolution, resolution_min, resolution_max));
  return {};
}

std::string text_of(const Shape& shape) {
  std::string text;
  for (const std::int64_t dimension : shape) text += (text.empty() ? "" : ", ") + std::to_string(dimension);
  return "[" + text + "]";
}

Fault find_rank_fault(const Architecture& architecture, std::size_t rank, const char* dimensions) {
  if (architecture.input_shape.size() == rank) return {};
  return ArchitectureFault{"input", "shape",
                           fmt::format("is {}, but the input of {} is [{}]",
                                       text_of(architecture.input_shape), architecture.kind, dimensions)};
}

/// Convolutions keep a size and the pooling behind each divides it: until nothing is left?
Fault find_shrinking_fault(const Architecture& architecture) {
  for (std::size_t dimension = 1; dimension < architecture.input_shape.size(); ++dimension) {
    std::int64_t size = architecture.input_shape[dimension];
    for (std::size_t layer = 1; layer <= architecture.channels.size(); ++layer) {
      if (size < architecture.pool)
        return model_fault(
            "pool",
            fmt::format("is {}, but only {} of the input's {} in dimension {} are left "
                        "behind conv{}: pool less, or give fewer model.channels",
                        architecture.pool, size, architecture.input_shape[dimension], dimension, layer));
      size /= architecture.pool;
    }
  }
  return {};
}

}  // namespace

double loss_of(RegressionLoss loss, double error) {
  const double size = std::abs(error);
  if (loss == RegressionLoss::absolute) return size;
  if (loss == RegressionLoss::squared) return error * error;
  return size <= 1.0 ? error * error / 2.0 : size - 0.5;
}

std::size_t Architecture::input_size() const {
  std::size_t size = 1;
  for (const std::int64_t dimension : input_shape) size *= static_cast<std::size_t>(dimension);
  return size;
}

const std::vector<std::string>& architecture_kinds() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names;
    for (const Kind& kind : kinds()) names.push_back(kind.usual.kind);
    return names;
  }();
  return all;
}

Architecture default_architecture(std::string_view kind) { return kind_of(kind).usual; }

Fault find_model_fault(const Architecture& architecture) {
  const std::string& kind = architecture.kind;
  const auto& keys = kind_of(kind).keys;
  for (const Field& field : fields)
    if (field.is_set(architecture) && std::ranges::find(keys, field.key) == keys.end())
      return model_fault(field.key, fmt::format("does not belong to {}; {}", kind, text_of(keys)));
  if (Fault fault = find_size_fault("hidden", architecture.hidden, "units")) return fault;
  if (Fault fault = find_size_fault("channels", architecture.channels, "channels")) return fault;
  if (kind == "cnn" || kind == "cnn1d") return find_convolution_fault(architecture);
  if (kind == "resnet18") return find_resnet_fault(architecture);
  if (kind == "mobilenet_v2") return find_mobilenet_fault(architecture);
  if (kind == "gru" && architecture.hidden.size() != 1)
    return model_fault("hidden", fmt::format("has {} elements; a gru has one layer, and so one size",
                                             architecture.hidden.size()));
  if (kind == "autoencoder" && architecture.hidden.empty())
    return model_fault("hidden", "is empty; an autoencoder needs at least the size of its code");
  return {};
}

Fault find_shape_fault(const Architecture& architecture) {
  const std::string& kind = architecture.kind;
  const Shape image = {1, 28, 28};
  if (kind == "mcmahan_cnn" && architecture.input_shape != image && architecture.input_shape != Shape{784})
    return ArchitectureFault{"input", "shape", "must be [1, 28, 28] or [784] for mcmahan_cnn"};
  if (kind == "autoencoder" && static_cast<std::size_t>(architecture.outputs) != architecture.input_size())
    return ArchitectureFault{
        "model", "architecture",
        fmt::format("is autoencoder, which rebuilds its {} inputs, but has {} outputs: set task.kind to "
                    "\"anomaly\"",
                    architecture.input_size(), architecture.outputs)};
  Fault rank;
  if (kind == "cnn" || kind == "resnet18" || kind == "mobilenet_v2")
    rank = find_rank_fault(architecture, 3, "channels, height, width");
  if (kind == "cnn1d" || kind == "gru") rank = find_rank_fault(architecture, 2, "channels, length");
  if (rank) return rank;
  return find_shrinking_fault(architecture);
}

}  // namespace rivulet
