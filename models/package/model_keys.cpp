#include "models/package/model_keys.h"

#include <spdlog/fmt/fmt.h>

#include "config/toml_reader.h"

namespace rivulet {
namespace {

constexpr std::int64_t size_max = 1 << 20;

}  // namespace

Architecture read_architecture(TomlReader& model, bool user) {
  std::vector<std::string> choices = architecture_kinds();
  if (user) choices.emplace_back(user_architecture);
  const std::string kind = model.choice("architecture", "mlp", choices);
  if (kind == user_architecture) return {.kind = kind};
  const Architecture usual = default_architecture(kind);
  Architecture architecture = usual;
  architecture.hidden = model.integers("hidden", usual.hidden, 1, size_max);
  architecture.channels = model.integers("channels", usual.channels, 1, size_max);
  architecture.kernel = model.integer("kernel", usual.kernel, 0, size_max);
  architecture.pool = model.integer("pool", usual.pool, 0, size_max);
  architecture.width = model.number("width", usual.width, 0, size_max);
  architecture.groups = model.integer("groups", usual.groups, 0, size_max);
  architecture.resolution = model.integer("resolution", usual.resolution, 0, size_max);
  const auto fault = find_model_fault(architecture);
  if (!fault) return architecture;
  model.reject(fault->key, fault->why);
  return usual;
}

std::vector<std::int64_t> read_shape(TomlReader& input, const std::vector<std::int64_t>& otherwise) {
  const std::vector<std::int64_t> shape = input.integers("shape", otherwise, 1, size_max);
  if (shape.empty() && !otherwise.empty()) {
    input.reject("shape", "must have at least one dimension");
    return otherwise;
  }
  std::int64_t size = 1;
  for (const std::int64_t dimension : shape) {
    if (dimension < 1 || dimension > size_max / size) {
      input.reject("shape", fmt::format("has more than {} numbers", size_max));
      return otherwise;
    }
    size *= dimension;
  }
  return shape;
}

PruningPlan read_pruning(TomlReader pruning) {
  PruningPlan plan;
  plan.sparsity = pruning.number("sparsity", plan.sparsity, 0.0, 1.0);
  if (plan.sparsity == 1.0) {
    pruning.reject("sparsity", "must be below 1: it is the fraction of the weights that goes");
    plan.sparsity = 0.0;
  }
  plan.begin = static_cast<std::uint32_t>(pruning.integer("begin", plan.begin, 0, pruning_rounds_max));
  plan.rounds = static_cast<std::uint32_t>(pruning.integer("rounds", plan.rounds, 1, pruning_rounds_max));
  return plan;
}

}  // namespace rivulet
