#include "models/runtime/architectures/dense.h"

#include <spdlog/fmt/fmt.h>

#include "models/runtime/architectures/families.h"

namespace rivulet {

void append_dense(NetworkBuilder& network, std::int64_t inputs, std::span<const std::int64_t> hidden,
                  std::int64_t outputs) {
  std::size_t number = 0;
  for (const std::int64_t size : hidden) {
    const std::string name = fmt::format("fc{}", ++number);
    network.dense(name, inputs, size);
    network.line(fmt::format("x = torch.relu(self.{}.forward(x))", name));
    inputs = size;
  }
  const std::string last = fmt::format("fc{}", ++number);
  network.dense(last, inputs, outputs);
  network.line(fmt::format("return self.{}.forward(x)", last));
}

Result<Network> make_mlp(const Architecture& architecture) {
  const auto inputs = static_cast<std::int64_t>(architecture.input_size());
  NetworkBuilder network;
  network.line(fmt::format("x = x.reshape([-1, {}])", inputs));
  append_dense(network, inputs, architecture.hidden, architecture.outputs);
  return std::move(network).finish(architecture.kind);
}

Result<Network> make_autoencoder(const Architecture& architecture) {
  const auto inputs = static_cast<std::int64_t>(architecture.input_size());
  std::vector<std::int64_t> sizes = {inputs};
  sizes.insert(sizes.end(), architecture.hidden.begin(), architecture.hidden.end());
  const std::size_t layers = architecture.hidden.size();
  NetworkBuilder network;
  network.line(fmt::format("x = x.reshape([-1, {}])", inputs));
  for (std::size_t i = 1; i <= layers; ++i) {
    const std::string name = fmt::format("encoder{}", i);
    network.dense(name, sizes[i - 1], sizes[i]);
    const std::string call = fmt::format("self.{}.forward(x)", name);
    network.line("x = " + (i < layers ? "torch.relu(" + call + ")" : call));
  }
  for (std::size_t i = layers; i >= 1; --i) {
    const std::string name = fmt::format("decoder{}", layers - i + 1);
    network.dense(name, sizes[i], sizes[i - 1]);
    const std::string call = fmt::format("self.{}.forward(x)", name);
    network.line(i > 1 ? "x = torch.relu(" + call + ")" : "return " + call);
  }
  return std::move(network).finish(architecture.kind);
}

}  // namespace rivulet
