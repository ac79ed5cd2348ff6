#include <spdlog/fmt/fmt.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/quantization/finalize.h>
#include <torch/csrc/jit/passes/quantization/insert_quant_dequant.h>

#include <algorithm>
#include <optional>
#include <set>

#include "models/package/snapshot.h"
#include "models/runtime/int8/backend.h"
#include "models/runtime/int8/bounded_relu.h"
#include "models/runtime/int8/module_int8.h"
#include "models/runtime/int8/observers.h"
#include "models/runtime/int8/small_operators.h"
#include "models/runtime/model_impl.h"
#include "protocol/assert.h"

namespace rivulet::int8 {
namespace {

using torch::jit::Block;
using torch::jit::Module;
using torch::jit::Node;

/// Int8 activations are channels-last, of which `view` makes no view.
void replace_view_by_reshape(Block& block) {
  std::vector<Node*> views;
  for (Node* node : block.nodes()) {
    for (Block* inner : node->blocks()) replace_view_by_reshape(*inner);
    const bool to_shape = node->kind() == c10::aten::view && node->inputs().size() == 2 &&
                          node->input(1)->type()->kind() == c10::TypeKind::ListType;
    if (to_shape) views.push_back(node);
  }
  for (Node* node : views) {
    node->replaceWithNewSymbol(c10::aten::reshape);
    node->destroy();
  }
}

/// From observers, which have their scales, to int8 operators. May throw.
Module convert(Module& observed, Int8Backend backend) {
  Module quantized = torch::jit::InsertQuantDeQuant(observed, "forward", /*inplace=*/false, /*debug=*/false);
  quantized.eval();
  const BackendGuard guard(backend);
  Module module = torch::jit::Finalize(quantized);
  std::shared_ptr<torch::jit::Graph> graph = module.get_method("forward").graph();
  replace_view_by_reshape(*graph->block());
  // With the packed weights in place, what they were packed from is dead.
  torch::jit::ConstantPropagation(graph);
  remove_saturated_bounds(*graph->block());
  torch::jit::EliminateDeadCode(graph);
  return module;
}

/// Calibrates on all of the batches and builds what comes of it, to see that it runs. May throw.
Result<std::vector<ActivationRange>> try_quantizing(const ModuleFactory& make,
                                                    std::span<const at::Tensor> batches,
                                                    const std::set<std::string>& quantized,
                                                    Int8Backend backend) {
  const at::NoGradGuard no_grad;
  // The passes inline whole networks, for which the usual executor has to be on; running them takes the plain
  // one.
  ObservedModule observed = observe(make(), quantized);
  const auto run = [](Module& module, const at::Tensor& batch) {
    const PlainExecution plain;
    module.forward({batch});
  };
  for (const at::Tensor& batch : batches) run(observed.module, batch);
  Result<std::vector<ActivationRange>> ranges = observed.ranges();
  if (!ranges) return ranges;
  observed.preload(*ranges, ActivationBits::eight);
  Module converted = convert(observed.module, backend);
  run(converted, batches.front().narrow(0, 0, 1));
  return ranges;
}

/// Finds the submodules that can be quantized together.
class RefusalSearch {
 public:
  std::set<std::string> quantized;
  std::vector<std::string> refused;
  std::string reason;  ///< Of the last refusal.

  RefusalSearch(const ModuleFactory& make, const at::Tensor& sample, Int8Backend backend)
      : make_(make), sample_(sample), backend_(backend) {}

  void run(std::span<const std::string> names) {
    std::set<std::string> wanted = quantized;
    wanted.insert(names.begin(), names.end());
    if (works(wanted)) {
      quantized = std::move(wanted);
      return;
    }
    if (names.size() == 1) {
      refused.push_back(names.front());
      return;
    }
    run(names.first(names.size() / 2));
    run(names.subspan(names.size() / 2));
  }

 private:
  bool works(const std::set<std::string>& wanted) {
    const auto tried = catch_torch("int8", [&]() -> Result<std::vector<ActivationRange>> {
      return try_quantizing(make_, {&sample_, 1}, wanted, backend_);
    });
    // A model that overflows is no better in float: the calibration itself will say so.
    if (tried || tried.error().code == Errc::corrupt) return true;
    reason = tried.error().detail;
    return false;
  }

  const ModuleFactory& make_;
  const at::Tensor& sample_;
  Int8Backend backend_;
};

Error as_unsupported(Error error) {
  if (error.code == Errc::internal) error.code = Errc::unsupported;
  return error;
}

Result<Int8Backend> first_backend() {
  const std::vector<Int8Backend> backends = int8_backends();
  if (backends.empty()) return fail(Errc::unsupported, "this LibTorch has no int8 operators");
  return backends.front();
}

}  // namespace

QuantizedWeight quantize_weight(const at::Tensor& weight) {
  if (weight.dim() < 2 || weight.scalar_type() != at::kFloat)
    throw std::runtime_error("a weight for int8 needs two dimensions of float32");
  const at::Tensor dense = weight.detach().contiguous();
  // Weights into which a norm was folded may have overflowed.
  if (!at::isfinite(dense).all().item<bool>()) throw std::runtime_error("a weight for int8 is not finite");
  const auto count = static_cast<std::size_t>(dense.numel());
  const QuantizedTensor encoded =
      quantize({dense.data_ptr<float>(), count}, static_cast<std::size_t>(dense.size(0)));
  QuantizedWeight quantized{at::empty(dense.sizes(), at::kChar), at::empty({dense.size(0)}, at::kFloat)};
  std::ranges::copy(encoded.scales, quantized.scales.data_ptr<float>());
  std::ranges::copy(encoded.entries, quantized.entries.data_ptr<std::int8_t>());
  quantized.scales.masked_fill_(quantized.scales == 0, 1);
  return quantized;
}

Result<ActivationRanges> calibrate(const ModuleFactory& make, std::span<const at::Tensor> batches) {
  RIVULET_ASSERT(!batches.empty());
  const Result<Int8Backend> backend = first_backend();
  if (!backend) return std::unexpected(backend.error());
  return catch_torch("calibrating for int8", [&]() -> Result<ActivationRanges> {
    const at::Tensor sample = batches.front().narrow(0, 0, 1);
    RefusalSearch search(make, sample, *backend);
    search.run(submodule_names(make()));
    Result<std::vector<ActivationRange>> ranges = try_quantizing(make, batches, search.quantized, *backend);
    if (!ranges) return std::unexpected(ranges.error());
    if (ranges->empty())
      return fail(Errc::unsupported,
                  search.reason.empty()
                      ? "the model has no operation that LibTorch's static int8 knows"
                      : fmt::format("no part of the model can be quantized: {}", search.reason));
    return ActivationRanges{std::move(*ranges), std::move(search.refused)};
  });
}

Result<Module> build_static(const ModuleFactory& make, const ActivationRanges& ranges, Int8Backend backend,
                            ActivationBits bits, Kernels kernels) {
  if (Status status = check(ranges); !status) return std::unexpected(status.error());
  Result<Module> module = catch_torch("building static int8", [&]() -> Result<Module> {
    const at::NoGradGuard no_grad;
    const Module plain = make();
    const std::vector<std::string> names = submodule_names(plain);
    std::set<std::string> quantized(names.begin(), names.end());
    for (const std::string& name : ranges.left_in_float)
      if (quantized.erase(name) == 0)
        return fail(Errc::invalid,
                    fmt::format("the model has no module '{}' that could be left in float", name));
    ObservedModule observed = observe(plain, quantized);
    if (observed.activations.size() != ranges.values.size())
      return fail(Errc::invalid, fmt::format("the model quantizes {} activations, but {} ranges were given",
                                             observed.activations.size(), ranges.values.size()));
    observed.preload(ranges.values, bits);
    Module built = convert(observed.module, backend);
    if (kernels == Kernels::own) use_own_kernels(built);
    return built;
  });
  if (!module) return std::unexpected(as_unsupported(module.error()));
  return module;
}

}  // namespace rivulet::int8
