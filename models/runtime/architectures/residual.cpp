#include <spdlog/fmt/fmt.h>

#include "models/runtime/architectures/families.h"

namespace rivulet {
namespace {

constexpr double first_channels = 64;  // At width 1.
constexpr int stages = 4;
constexpr int blocks = 2;

struct Block {
  std::string name;
  std::int64_t inputs = 0;
  std::int64_t outputs = 0;
  std::int64_t stride = 1;
  std::int64_t groups = 1;
};

/// The basic block of He et al. 2016, figure 5 left; with a projection where the shape changes.
void append_block(NetworkBuilder& network, const Block& block) {
  const auto convolve = [&](const std::string& name, std::int64_t inputs, std::int64_t kernel,
                            std::int64_t stride) {
    network.convolution_2d(fmt::format("{}_{}", block.name, name),
                           {inputs, block.outputs, kernel, stride, /*has_bias=*/false});
  };
  const auto normalize = [&](const std::string& name) {
    network.group_norm(fmt::format("{}_{}", block.name, name), block.outputs, block.groups);
  };
  convolve("conv1", block.inputs, 3, block.stride);
  normalize("norm1");
  convolve("conv2", block.outputs, 3, 1);
  normalize("norm2");
  network.line(fmt::format("y = torch.relu(self.{0}_norm1.forward(self.{0}_conv1.forward(x)))", block.name));
  network.line(fmt::format("y = self.{0}_norm2.forward(self.{0}_conv2.forward(y))", block.name));
  if (block.stride != 1 || block.inputs != block.outputs) {
    convolve("project", block.inputs, 1, block.stride);
    normalize("project_norm");
    network.line(fmt::format("x = self.{0}_project_norm.forward(self.{0}_project.forward(x))", block.name));
  }
  network.line("x = torch.relu(y + x)");
}

}  // namespace

Result<Network> make_resnet18(const Architecture& architecture) {
  const auto& shape = architecture.input_shape;
  auto channels = static_cast<std::int64_t>(first_channels * architecture.width);
  NetworkBuilder network;
  network.convolution_2d("conv", {shape[0], channels, 3, 1, /*has_bias=*/false});
  network.group_norm("norm", channels, architecture.groups);
  network.line(fmt::format("x = x.reshape([-1, {}, {}, {}])", shape[0], shape[1], shape[2]));
  network.line("x = torch.relu(self.norm.forward(self.conv.forward(x)))");
  std::int64_t inputs = channels;
  for (int stage = 1; stage <= stages; ++stage) {
    if (stage > 1) channels *= 2;
    for (int block = 1; block <= blocks; ++block) {
      append_block(network, {.name = fmt::format("stage{}_block{}", stage, block),
                             .inputs = inputs,
                             .outputs = channels,
                             .stride = stage > 1 && block == 1 ? 2 : 1,
                             .groups = architecture.groups});
      inputs = channels;
    }
  }
  network.dense("fc", channels, architecture.outputs);
  network.line(fmt::format("x = torch.adaptive_avg_pool2d(x, [1, 1]).reshape([-1, {}])", channels));
  network.line("return self.fc.forward(x)");
  return std::move(network).finish(architecture.kind);
}

}  // namespace rivulet
