#include "models/runtime/architectures.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "models/runtime/architectures/families.h"
#include "protocol/assert.h"
#include "protocol/rng.h"

namespace rivulet {
namespace {

struct Family {
  std::string_view kind;
  Result<Network> (*make)(const Architecture&);
};

constexpr Family families[] = {
    {"mlp", make_mlp},           {"mcmahan_cnn", make_mcmahan_cnn},
    {"cnn", make_cnn},           {"cnn1d", make_cnn1d},
    {"gru", make_gru},           {"autoencoder", make_autoencoder},
    {"resnet18", make_resnet18}, {"mobilenet_v2", make_mobilenet_v2},
};

/// input_size() without the risk of an overflow; 0 if a dimension is not positive.
std::int64_t bounded_input_size(const Architecture& architecture) {
  std::int64_t size = architecture.input_shape.empty() ? 0 : 1;
  for (const std::int64_t dimension : architecture.input_shape) {
    if (dimension <= 0) return 0;
    if (dimension > parameters_max / size) return parameters_max + 1;
    size *= dimension;
  }
  return size;
}

Status check_sizes(const Architecture& architecture) {
  const std::int64_t input = bounded_input_size(architecture);
  if (input == 0) return fail(Errc::invalid, "input.shape needs at least one dimension, and each at least 1");
  if (input > parameters_max)
    return fail(Errc::too_large,
                fmt::format("input.shape has more than {} numbers a sample", parameters_max));
  if (architecture.outputs <= 0)
    return fail(Errc::invalid,
                fmt::format("the model has {} outputs; it needs at least 1", architecture.outputs));
  auto fault = find_model_fault(architecture);
  if (!fault) fault = find_shape_fault(architecture);
  if (!fault) return {};
  return fail(Errc::invalid, fmt::format("{}.{} {}", fault->section, fault->key, fault->why));
}

/// Where the first values of a tensor come from.
struct Start {
  double bound = 0;  ///< Uniform within ± this; 0: all are `value`.
  float value = 0;
};

/// @param before  the start of the tensor in front of it: that of a bias's weight.
Start start_of(const TensorSpec& tensor, const Start& before) {
  const std::string_view name = std::string_view(tensor.name).substr(tensor.name.rfind('.') + 1);
  const auto rows = static_cast<double>(tensor.shape.empty() ? 1 : tensor.shape.front());
  if (tensor.kind == TensorKind::statistic) return {.value = name == "running_var" ? 1.0F : 0.0F};
  if (name.ends_with("_l0")) return {.bound = 1 / std::sqrt(rows / 3)};  // Three gates of `hidden` rows.
  if (name == "bias") return {.bound = before.bound};
  if (tensor.shape.size() < 2) return {.value = 1};  // The scale of a normalization.
  return {.bound = 1 / std::sqrt(static_cast<double>(tensor.size()) / rows)};
}

}  // namespace

Result<Network> network_of(const Architecture& architecture) {
  const auto family = std::ranges::find(families, architecture.kind, &Family::kind);
  if (family == std::ranges::end(families)) {
    std::string kinds;
    for (const std::string& kind : architecture_kinds()) kinds += (kinds.empty() ? "" : ", ") + kind;
    return fail(Errc::unsupported, fmt::format("model.architecture \"{}\" is unknown; it must be one of: {}",
                                               architecture.kind, kinds));
  }
  if (const Status sizes = check_sizes(architecture); !sizes) return std::unexpected(sizes.error());
  return family->make(architecture);
}

Result<ParameterLayout> layout_of(const Architecture& architecture) {
  const Result<Network> network = network_of(architecture);
  if (!network) return std::unexpected(network.error());
  return network->layout();
}

std::vector<float> initial_weights(const ParameterLayout& layout, std::uint64_t seed) {
  std::vector<float> weights;
  weights.reserve(layout.size());
  Start start;
  for (std::size_t index = 0; index < layout.tensors.size(); ++index) {
    const TensorSpec& tensor = layout.tensors[index];
    start = start_of(tensor, start);
    if (start.bound == 0) {
      weights.insert(weights.end(), tensor.size(), start.value);
      continue;
    }
    Rng rng(derive_seed(seed, index));  // A stream a tensor: adding one leaves the others as they were.
    for (std::size_t i = 0; i < tensor.size(); ++i)
      weights.push_back(static_cast<float>((2 * uniform_unit(rng) - 1) * start.bound));
  }
  return weights;
}

}  // namespace rivulet
