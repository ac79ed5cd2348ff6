#include "models/surgery/channel_pruning.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

#include "models/package/pruning.h"
#include "protocol/assert.h"

namespace rivulet {
namespace {

/// Convolutions and dense layers are the same here: an output is a row of `inputs` groups of numbers.
struct Layer {
  std::span<const float> weight;  ///< [outputs, inputs, extent]
  std::span<const float> bias;    ///< [outputs]
  std::size_t outputs = 0;
  std::size_t inputs = 0;
  std::size_t extent = 1;         ///< Numbers for each input: a kernel's positions, else 1.
  std::vector<std::size_t> kept;  ///< Outputs, ascending.
};

bool is_convolutional(const Architecture& architecture) {
  return architecture.kind == "cnn" || architecture.kind == "cnn1d" || architecture.kind == "mcmahan_cnn";
}

Status check(const Architecture& architecture, const ChannelPruning& pruning) {
  const bool is_sequence =
      architecture.kind == "mlp" || architecture.kind == "autoencoder" || is_convolutional(architecture);
  if (!is_sequence)
    return fail(Errc::unsupported,
                fmt::format("a {} network cannot be pruned by its channels: distil it into a smaller one "
                            "with 'rivulet model distill'",
                            architecture.kind == user_architecture ? "user's" : architecture.kind));
  if (!(pruning.fraction > 0.0 && pruning.fraction < 1.0))
    return fail(Errc::invalid,
                fmt::format("the fraction is {}; it must be above 0 and below 1", pruning.fraction));
  return {};
}

/// The layers in order, each of a weight and a bias, as every network of a supported kind has them.
std::vector<Layer> layers_of(const ParameterLayout& layout, std::span<const float> weights) {
  RIVULET_ASSERT(layout.size() == weights.size() && layout.tensors.size() % 2 == 0);
  std::vector<Layer> layers;
  std::size_t at = 0;
  for (std::size_t i = 0; i < layout.tensors.size(); i += 2) {
    const TensorSpec& weight = layout.tensors[i];
    const TensorSpec& bias = layout.tensors[i + 1];
    RIVULET_ASSERT(weight.shape.size() >= 2 && bias.size() * static_cast<std::size_t>(weight.shape[1]) > 0);
    Layer& layer = layers.emplace_back();
    layer.outputs = static_cast<std::size_t>(weight.shape[0]);
    layer.inputs = static_cast<std::size_t>(weight.shape[1]);
    layer.extent = weight.size() / layer.outputs / layer.inputs;
    layer.weight = weights.subspan(at, weight.size());
    layer.bias = weights.subspan(at + weight.size(), bias.size());
    at += weight.size() + bias.size();
    layer.kept.resize(layer.outputs);
    std::iota(layer.kept.begin(), layer.kept.end(), std::size_t{0});
  }
  return layers;
}

/// @return how many outputs went.
std::size_t drop_weakest(Layer& layer, double fraction) {
  const std::size_t dropped = part_of(fraction, layer.outputs);
  const std::size_t width = layer.inputs * layer.extent;
  std::vector<double> norms;
  for (std::size_t output = 0; output < layer.outputs; ++output) {
    double sum = 0.0;
    for (const float w : layer.weight.subspan(output * width, width)) sum += std::abs(static_cast<double>(w));
    norms.push_back(sum);
  }
  std::ranges::stable_sort(layer.kept, [&](std::size_t a, std::size_t b) { return norms[a] > norms[b]; });
  layer.kept.resize(layer.outputs - dropped);
  std::ranges::sort(layer.kept);
  return dropped;
}

/// The inputs of a layer that are left when only some outputs of the layer before are: of a convolution's
/// output that was flattened, a block of several inputs each.
std::vector<std::size_t> inputs_left(const Layer& layer, const Layer* before) {
  std::vector<std::size_t> left;
  if (before == nullptr) {
    left.resize(layer.inputs);
    std::iota(left.begin(), left.end(), std::size_t{0});
    return left;
  }
  RIVULET_ASSERT(layer.inputs % before->outputs == 0);
  const std::size_t block = layer.inputs / before->outputs;
  for (const std::size_t output : before->kept)
    for (std::size_t i = 0; i < block; ++i) left.push_back(output * block + i);
  return left;
}

/// Appends weight and bias of what is left of a layer.
void append(const Layer& layer, const std::vector<std::size_t>& inputs, std::vector<float>& weights) {
  for (const std::size_t output : layer.kept) {
    for (const std::size_t input : inputs) {
      const auto numbers = layer.weight.subspan((output * layer.inputs + input) * layer.extent, layer.extent);
      weights.insert(weights.end(), numbers.begin(), numbers.end());
    }
  }
  for (const std::size_t output : layer.kept) weights.push_back(layer.bias[output]);
}

/// The architecture with the sizes that its layers have now.
Architecture resized(Architecture architecture, const std::vector<Layer>& layers) {
  if (architecture.kind == "mcmahan_cnn") {  // As make_mcmahan_cnn builds it.
    architecture.kind = "cnn";
    architecture.input_shape = {1, 28, 28};
    architecture.channels = {32, 64};
    architecture.hidden = {512};
    architecture.kernel = 5;
    architecture.pool = 2;
  }
  std::size_t next = 0;
  for (auto* sizes : {&architecture.channels, &architecture.hidden})
    for (std::int64_t& size : *sizes) size = static_cast<std::int64_t>(layers[next++].kept.size());
  return architecture;
}

}  // namespace

Result<SizedNetwork> prune_channels(const Architecture& architecture, const ParameterLayout& layout,
                                    std::span<const float> weights, const ChannelPruning& pruning) {
  if (const Status status = check(architecture, pruning); !status) return std::unexpected(status.error());
  std::vector<Layer> layers = layers_of(layout, weights);
  const std::size_t code =
      architecture.kind == "autoencoder" ? architecture.hidden.size() - 1 : layers.size();
  std::size_t dropped = 0;
  for (std::size_t i = 0; i + 1 < layers.size(); ++i)
    if (i != code || pruning.code) dropped += drop_weakest(layers[i], pruning.fraction);
  if (dropped == 0)
    return fail(
        Errc::invalid,
        fmt::format("a fraction of {} takes no unit from any layer: give a greater one", pruning.fraction));
  SizedNetwork pruned{resized(architecture, layers), layout, {}};
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::vector<std::size_t> inputs = inputs_left(layers[i], i == 0 ? nullptr : &layers[i - 1]);
    TensorSpec& weight = pruned.layout.tensors[2 * i];
    weight.shape[0] = static_cast<std::int64_t>(layers[i].kept.size());
    weight.shape[1] = static_cast<std::int64_t>(inputs.size());
    pruned.layout.tensors[2 * i + 1].shape = {weight.shape[0]};
    append(layers[i], inputs, pruned.weights);
  }
  RIVULET_ASSERT(pruned.weights.size() == pruned.layout.size());
  return pruned;
}

}  // namespace rivulet
