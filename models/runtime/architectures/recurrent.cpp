#include <spdlog/fmt/fmt.h>

#include "models/runtime/architectures/families.h"

namespace rivulet {

Result<Network> make_gru(const Architecture& architecture) {
  const std::int64_t inputs = architecture.input_shape[0];
  const std::int64_t length = architecture.input_shape[1];
  const std::int64_t hidden = architecture.hidden.front();
  NetworkBuilder network;
  network.gru("gru", inputs, hidden);
  network.dense("fc", hidden, architecture.outputs);
  // Time goes first, as the recurrence does: a step then reads one block of memory.
  network.line(fmt::format("x = x.reshape([-1, {}, {}]).permute([2, 0, 1]).contiguous()", inputs, length));
  network.line("return self.fc.forward(self.gru.forward(x))");
  return std::move(network).finish(architecture.kind);
}

}  // namespace rivulet
