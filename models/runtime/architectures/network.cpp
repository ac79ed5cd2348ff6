#include "models/runtime/architectures/network.h"

#include <spdlog/fmt/fmt.h>

#include <utility>

namespace rivulet {
namespace {

std::string forward_of(const std::string& lines) { return "def forward(self, x):\n" + lines; }

Layer convolution(const std::string& name, const NetworkBuilder::Convolution& sizes, std::size_t dimensions) {
  std::vector<std::int64_t> shape = {sizes.outputs, sizes.inputs / sizes.groups};
  shape.insert(shape.end(), dimensions, sizes.kernel);
  const std::int64_t padding = sizes.kernel / 2;
  const auto each = [&](std::int64_t value) {
    return dimensions == 1 ? fmt::format("[{}]", value) : fmt::format("[{}, {}]", value, value);
  };
  Layer layer{
      name, fmt::format("torch.nn.modules.conv.Conv{}d", dimensions), {{"weight", std::move(shape)}}, {}};
  if (sizes.has_bias) layer.tensors.push_back({"bias", {sizes.outputs}});
  layer.source = forward_of(fmt::format("    return torch.conv{}d(x, self.weight, {}, {}, {}, {}, {})\n",
                                        dimensions, sizes.has_bias ? "self.bias" : "None", each(sizes.stride),
                                        each(padding), each(1), sizes.groups));
  return layer;
}

}  // namespace

ParameterLayout Network::layout() const {
  ParameterLayout layout;
  for (const Layer& layer : layers)
    for (const TensorSpec& tensor : layer.tensors)
      layout.tensors.push_back({layer.name + "." + tensor.name, tensor.shape, tensor.kind});
  return layout;
}

void NetworkBuilder::dense(const std::string& name, std::int64_t inputs, std::int64_t outputs) {
  add({name,
       "torch.nn.modules.linear.Linear",
       {{"weight", {outputs, inputs}}, {"bias", {outputs}}},
       forward_of("    return torch.linear(x, self.weight, self.bias)\n")});
}

void NetworkBuilder::convolution_1d(const std::string& name, const Convolution& sizes) {
  add(convolution(name, sizes, 1));
}

void NetworkBuilder::convolution_2d(const std::string& name, const Convolution& sizes) {
  add(convolution(name, sizes, 2));
}

void NetworkBuilder::group_norm(const std::string& name, std::int64_t channels, std::int64_t groups) {
  add({name,
       "torch.nn.modules.normalization.GroupNorm",
       {{"weight", {channels}}, {"bias", {channels}}},
       forward_of(
           fmt::format("    return torch.group_norm(x, {}, self.weight, self.bias, 1e-05)\n", groups))});
}

void NetworkBuilder::batch_norm_2d(const std::string& name, std::int64_t channels) {
  // The last argument allows cuDNN.
  add({.name = name,
       .type = "torch.nn.modules.batchnorm.BatchNorm2d",
       .tensors = {{"weight", {channels}},
                   {"bias", {channels}},
                   {"running_mean", {channels}, TensorKind::statistic},
                   {"running_var", {channels}, TensorKind::statistic}},
       .source = forward_of("    return torch.batch_norm(x, self.weight, self.bias, self.running_mean,"
                            " self.running_var, self.training, 0.1, 1e-05, True)\n"),
       .has_mode = true});
}

void NetworkBuilder::gru(const std::string& name, std::int64_t inputs, std::int64_t hidden) {
  const std::int64_t gates = 3 * hidden;
  // Arguments: biases are there, one layer, no dropout, not in training (of dropout), one direction,
  // time before batch.
  add({name,
       "torch.nn.modules.rnn.GRU",
       {{"weight_ih_l0", {gates, inputs}},
        {"weight_hh_l0", {gates, hidden}},
        {"bias_ih_l0", {gates}},
        {"bias_hh_l0", {gates}}},
       forward_of(fmt::format(
           "    first = x.new_zeros([1, x.size(1), {0}])\n"
           "    states, last = torch.gru(x, first, [self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0,"
           " self.bias_hh_l0], True, 1, 0.0, False, False, False)\n"
           "    return last.reshape([-1, {0}])\n",
           hidden))});
}

void NetworkBuilder::line(const std::string& text) { network_.source += "    " + text + "\n"; }

void NetworkBuilder::add(Layer layer) {
  for (const TensorSpec& tensor : layer.tensors) {
    std::int64_t size = 1;
    for (const std::int64_t dimension : tensor.shape)
      size = dimension > parameters_max / size ? parameters_max + 1 : size * dimension;
    parameters_ = size > parameters_max - parameters_ ? parameters_max + 1 : parameters_ + size;
  }
  network_.layers.push_back(std::move(layer));
}

Result<Network> NetworkBuilder::finish(const std::string& kind) && {
  if (parameters_ > parameters_max)
    return fail(Errc::too_large,
                fmt::format("the {} has more than {} parameters; make it smaller", kind, parameters_max));
  network_.source = forward_of(network_.source);
  return std::move(network_);
}

}  // namespace rivulet
