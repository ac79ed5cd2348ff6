#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "models/runtime/architectures/families.h"

namespace rivulet {
namespace {

/// A line of Table 2: `repeats` blocks of which the first has the stride.
struct Stage {
  std::int64_t expansion = 1;
  std::int64_t channels = 0;
  int repeats = 1;
  std::int64_t stride = 1;
};

constexpr double first_channels = 32;
constexpr double last_channels = 1280;
constexpr Stage stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                            {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};

/// Convolution and norm named `name`; its line reads and sets `variable`.
void append_convolution(NetworkBuilder& network, const std::string& name,
                        const NetworkBuilder::Convolution& sizes, const char* from, const char* to,
                        bool is_linear) {
  network.convolution_2d(name, sizes);
  network.batch_norm_2d(name + "_norm", sizes.outputs);
  const std::string call = fmt::format("self.{0}_norm.forward(self.{0}.forward({1}))", name, from);
  network.line(is_linear ? fmt::format("{} = {}", to, call)
                         : fmt::format("{} = torch.hardtanh({}, 0., 6.)", to, call));
}

struct Block {
  std::string name;
  std::int64_t inputs = 0;
  std::int64_t outputs = 0;
  std::int64_t expansion = 1;
  std::int64_t stride = 1;
};

/// The bottleneck of Sandler et al. 2018, Table 1 and figure 4 (d).
void append_block(NetworkBuilder& network, const Block& block) {
  const std::int64_t inner = block.inputs * block.expansion;
  const char* from = "x";
  if (block.expansion != 1) {
    append_convolution(network, block.name + "_expand",
                       {.inputs = block.inputs, .outputs = inner, .has_bias = false}, from, "y", false);
    from = "y";
  }
  append_convolution(network, block.name + "_depthwise",
                     {inner, inner, 3, block.stride, /*has_bias=*/false, /*groups=*/inner}, from, "y", false);
  append_convolution(network, block.name + "_project",
                     {.inputs = inner, .outputs = block.outputs, .has_bias = false}, "y", "y", true);
  network.line(block.stride == 1 && block.inputs == block.outputs ? "x = x + y" : "x = y");
}

}  // namespace

std::int64_t mobilenet_channels(double wanted) {
  constexpr std::int64_t unit = 8;
  const auto near = static_cast<std::int64_t>(wanted + unit / 2.0) / unit * unit;
  const std::int64_t channels = std::max(unit, near);
  return static_cast<double>(channels) < 0.9 * wanted ? channels + unit : channels;
}

Result<Network> make_mobilenet_v2(const Architecture& architecture) {
  const auto& shape = architecture.input_shape;
  const double width = architecture.width;
  const std::int64_t resolution = architecture.resolution;
  NetworkBuilder network;
  network.line(fmt::format("x = x.reshape([-1, {}, {}, {}])", shape[0], shape[1], shape[2]));
  if (resolution != 0 && (shape[1] != resolution || shape[2] != resolution))
    network.line(fmt::format("x = torch.upsample_bilinear2d(x, [{0}, {0}], False)", resolution));
  std::int64_t inputs = mobilenet_channels(first_channels * width);
  append_convolution(network, "conv", {shape[0], inputs, 3, 2, /*has_bias=*/false}, "x", "x", false);
  int number = 0;
  for (const Stage& stage : stages) {
    const std::int64_t outputs = mobilenet_channels(static_cast<double>(stage.channels) * width);
    for (int repeat = 0; repeat < stage.repeats; ++repeat) {
      append_block(network, {.name = fmt::format("block{}", ++number),
                             .inputs = inputs,
                             .outputs = outputs,
                             .expansion = stage.expansion,
                             .stride = repeat == 0 ? stage.stride : 1});
      inputs = outputs;
    }
  }
  const std::int64_t last = mobilenet_channels(last_channels * std::max(1.0, width));
  append_convolution(network, "last", {.inputs = inputs, .outputs = last, .has_bias = false}, "x", "x",
                     false);
  network.dense("fc", last, architecture.outputs);
  network.line(fmt::format("x = torch.adaptive_avg_pool2d(x, [1, 1]).reshape([-1, {}])", last));
  network.line("return self.fc.forward(x)");
  return std::move(network).finish(architecture.kind);
}

}  // namespace rivulet
