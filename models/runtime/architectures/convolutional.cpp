#include <spdlog/fmt/fmt.h>

#include "models/runtime/architectures/dense.h"
#include "models/runtime/architectures/families.h"

namespace rivulet {
namespace {

/// The convolutions, each with ReLU and pooling, over the dimensions of `shape` behind its first.
/// @param shape  of the input, one channel first; becomes that of what the last pooling leaves.
void append_convolutions(NetworkBuilder& network, const Architecture& architecture,
                         std::vector<std::int64_t>& shape) {
  const bool over_time = shape.size() == 2;
  const std::string pooling = over_time ? fmt::format("max_pool1d(x, [{}])", architecture.pool)
                                        : fmt::format("max_pool2d(x, [{0}, {0}])", architecture.pool);
  std::size_t number = 0;
  for (const std::int64_t channels : architecture.channels) {
    const std::string name = fmt::format("conv{}", ++number);
    const NetworkBuilder::Convolution sizes{
        .inputs = shape.front(), .outputs = channels, .kernel = architecture.kernel};
    if (over_time) {
      network.convolution_1d(name, sizes);
    } else {
      network.convolution_2d(name, sizes);
    }
    network.line(fmt::format("x = torch.relu(self.{}.forward(x))", name));
    if (architecture.pool > 1) network.line("x = torch." + pooling);
    shape.front() = channels;
    for (std::size_t i = 1; i < shape.size(); ++i) shape[i] /= architecture.pool;
  }
}

}  // namespace

Result<Network> make_cnn(const Architecture& architecture) {
  NetworkBuilder network;
  std::vector<std::int64_t> shape = architecture.input_shape;
  network.line(fmt::format("x = x.reshape([-1, {}, {}, {}])", shape[0], shape[1], shape[2]));
  append_convolutions(network, architecture, shape);
  const std::int64_t features = shape[0] * shape[1] * shape[2];
  network.line(fmt::format("x = x.reshape([-1, {}])", features));
  append_dense(network, features, architecture.hidden, architecture.outputs);
  return std::move(network).finish(architecture.kind);
}

Result<Network> make_mcmahan_cnn(const Architecture& architecture) {
  return make_cnn({.kind = architecture.kind,
                   .hidden = {512},
                   .input_shape = {1, 28, 28},
                   .outputs = architecture.outputs,
                   .channels = {32, 64},
                   .kernel = 5,
                   .pool = 2});
}

Result<Network> make_cnn1d(const Architecture& architecture) {
  NetworkBuilder network;
  std::vector<std::int64_t> shape = architecture.input_shape;
  network.line(fmt::format("x = x.reshape([-1, {}, {}])", shape[0], shape[1]));
  append_convolutions(network, architecture, shape);
  network.line(fmt::format("x = torch.adaptive_avg_pool1d(x, [1]).reshape([-1, {}])", shape[0]));
  append_dense(network, shape[0], architecture.hidden, architecture.outputs);
  return std::move(network).finish(architecture.kind);
}

}  // namespace rivulet
