#include "models/runtime/architectures.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>

#include "protocol/assert.h"
#include "protocol/rng.h"

namespace rivulet {
namespace {

constexpr std::int64_t parameters_max = std::int64_t{1} << 30;

void append_layer(ParameterLayout& layout, const std::string& name, std::vector<std::int64_t> shape) {
  const std::int64_t outputs = shape.front();
  layout.tensors.push_back({name + ".weight", std::move(shape), TensorKind::parameter});
  layout.tensors.push_back({name + ".bias", {outputs}, TensorKind::parameter});
}

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

Result<ParameterLayout> mlp_layout(const Architecture& architecture, std::int64_t input) {
  ParameterLayout layout;
  std::vector<std::int64_t> widths = architecture.hidden;
  widths.push_back(architecture.outputs);
  std::int64_t previous = input;
  std::int64_t parameters = 0;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    if (widths[i] <= 0)
      return fail(Errc::invalid,
                  fmt::format("model.hidden[{}] is {}; a layer has at least 1 unit", i, widths[i]));
    if (widths[i] > (parameters_max - parameters) / (previous + 1))
      return fail(Errc::too_large,
                  fmt::format("the mlp has more than {} parameters; make it smaller", parameters_max));
    parameters += widths[i] * (previous + 1);
    append_layer(layout, fmt::format("fc{}", i + 1), {widths[i], previous});
    previous = widths[i];
  }
  return layout;
}

Result<ParameterLayout> mcmahan_cnn_layout(const Architecture& architecture) {
  using Shape = std::vector<std::int64_t>;
  if (architecture.input_shape != Shape{1, 28, 28} && architecture.input_shape != Shape{784})
    return fail(Errc::invalid, "mcmahan_cnn reads images of 28x28: set input.shape to [1, 28, 28] or [784]");
  if (!architecture.hidden.empty())
    return fail(Errc::invalid, "mcmahan_cnn has fixed layers: leave model.hidden out");
  if (architecture.outputs > parameters_max / 1024)
    return fail(Errc::too_large,
                fmt::format("mcmahan_cnn with {} outputs is too large", architecture.outputs));
  ParameterLayout layout;
  append_layer(layout, "conv1", {32, 1, 5, 5});
  append_layer(layout, "conv2", {64, 32, 5, 5});
  append_layer(layout, "fc1", {512, 64 * 7 * 7});
  append_layer(layout, "fc2", {architecture.outputs, 512});
  return layout;
}

}  // namespace

Result<ParameterLayout> layout_of(const Architecture& architecture) {
  const std::int64_t input = bounded_input_size(architecture);
  if (input == 0) return fail(Errc::invalid, "input.shape needs at least one dimension, and each at least 1");
  if (input > parameters_max)
    return fail(Errc::too_large,
                fmt::format("input.shape has more than {} numbers a sample", parameters_max));
  if (architecture.outputs <= 0)
    return fail(Errc::invalid,
                fmt::format("the model has {} outputs; it needs at least 1", architecture.outputs));
  if (architecture.kind == "mlp") return mlp_layout(architecture, input);
  if (architecture.kind == "mcmahan_cnn") return mcmahan_cnn_layout(architecture);
  return fail(Errc::unsupported,
              fmt::format("model.architecture \"{}\" is unknown; use mlp or mcmahan_cnn", architecture.kind));
}

std::vector<float> initial_weights(const ParameterLayout& layout, std::uint64_t seed) {
  std::vector<float> weights;
  weights.reserve(layout.size());
  double bound = 0;
  for (std::size_t index = 0; index < layout.tensors.size(); ++index) {
    const TensorSpec& tensor = layout.tensors[index];
    const bool is_weight = tensor.shape.size() >= 2;
    RIVULET_ASSERT(is_weight || bound > 0);
    if (is_weight)
      bound = 1 / std::sqrt(static_cast<double>(tensor.size()) / static_cast<double>(tensor.shape.front()));
    Rng rng(derive_seed(seed, index));  // A stream a tensor: adding one leaves the others as they were.
    for (std::size_t i = 0; i < tensor.size(); ++i)
      weights.push_back(static_cast<float>((2 * uniform_unit(rng) - 1) * bound));
  }
  return weights;
}

std::string forward_source(const Architecture& architecture) {
  // `reshape` and never `view`: int8 activations are channels-last, where `view` throws.
  std::string source = "def forward(self, x):\n";
  if (architecture.kind == "mcmahan_cnn") {
    return source +
           "    x = x.reshape([-1, 1, 28, 28])\n"
           "    x = torch.max_pool2d(torch.relu(self.conv1.forward(x)), [2, 2])\n"
           "    x = torch.max_pool2d(torch.relu(self.conv2.forward(x)), [2, 2])\n"
           "    x = torch.relu(self.fc1.forward(x.reshape([-1, 3136])))\n"
           "    return self.fc2.forward(x)\n";
  }
  source += fmt::format("    x = x.reshape([-1, {}])\n", architecture.input_size());
  const std::size_t hidden = architecture.hidden.size();
  for (std::size_t i = 1; i <= hidden; ++i)
    source += fmt::format("    x = torch.relu(self.fc{}.forward(x))\n", i);
  return source + fmt::format("    return self.fc{}.forward(x)\n", hidden + 1);
}

}  // namespace rivulet
