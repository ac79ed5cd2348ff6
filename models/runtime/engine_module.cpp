#include "models/runtime/engine_module.h"

#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include "models/runtime/architectures.h"
#include "models/runtime/extraction.h"
#include "models/runtime/frozen_activations.h"
#include "models/runtime/int8/module_int8.h"
#include "models/runtime/int8/packing.h"
#include "models/runtime/model_impl.h"
#include "models/runtime/torchscript/user_model.h"
#include "protocol/assert.h"

namespace rivulet {

torch::jit::Module make_float_module(const InferenceSpec& spec, std::span<const float> weights) {
  const at::NoGradGuard no_grad;
  if (spec.architecture.kind == user_architecture) {
    auto module = torchscript::build_module(spec.architecture, spec.layout, spec.graph, weights);
    if (!module) throw std::runtime_error(module.error().detail);
    return std::move(*module);
  }
  const Result<Network> network = network_of(spec.architecture);
  RIVULET_ASSERT(network.has_value());
  std::vector<at::Tensor> tensors;
  std::size_t offset = 0;
  for (const TensorSpec& tensor : spec.layout.tensors) {
    tensors.push_back(at::empty(tensor.shape, at::kFloat));
    std::ranges::copy(weights.subspan(offset, tensor.size()), tensors.back().data_ptr<float>());
    offset += tensor.size();
  }
  return make_script_module(*network, tensors);
}

torch::jit::Module optimize_frozen(torch::jit::Module frozen) {
  rewrite_activations(frozen.get_method("forward").graph());
  torch::jit::Module optimized = torch::jit::optimize_for_inference(frozen);
  // Dense layers got transposed weights; until then the dead ones stay in the graph and in memory.
  torch::jit::EliminateDeadCode(optimized.get_method("forward").graph());
  return optimized;
}

namespace {

/// Beside more packed weights than this there is no second copy for batches: with so much to compute for each
/// sample, one after the other takes hardly longer.
constexpr std::size_t second_copy_bytes_max = 8'000'000;

Result<torch::jit::Module> alone(Result<torch::jit::Module> module) {
  if (!module) return module;
  auto extracted = extract(*module);
  return extracted ? std::move(*extracted) : std::move(*module);
}

Result<torch::jit::Module> make_module(const InferenceSpec& spec, std::span<const float> weights,
                                       const EngineSetup& setup) {
  const Engine& engine = setup.engine;
  const auto make = [&] { return make_float_module(spec, weights); };
  switch (engine.kind) {
    case EngineKind::fp32_script: return make();
    case EngineKind::fp32_optimized: {
      const at::NoGradGuard no_grad;
      return alone(optimize_frozen(torch::jit::freeze(make())));
    }
    case EngineKind::int8_static:
      return alone(int8::build_static(make, setup.ranges, engine.backend, engine.bits));
    case EngineKind::int8_dynamic: return alone(int8::build_dynamic(make, engine.backend, engine.bits));
  }
  return fail(Errc::invalid, "the engine is of no known kind");
}

}  // namespace

Result<EngineModules> make_engine_modules(const InferenceSpec& spec, std::span<const float> weights,
                                          const EngineSetup& setup) {
  const Engine& engine = setup.engine;
  if (is_int8(engine.kind) != (engine.backend != Int8Backend::none))
    return fail(Errc::invalid, fmt::format("the engine {} needs {} int8 backend", name(engine),
                                           is_int8(engine.kind) ? "an" : "no"));
  return catch_torch("building the network", [&]() -> Result<EngineModules> {
    Result<torch::jit::Module> single = make_module(spec, weights, setup);
    if (!single) return std::unexpected(single.error());
    EngineModules modules{std::move(*single)};
    if (!is_int8(engine.kind)) return modules;
    auto packed = int8::pack_again(modules.single, engine.backend);
    if (!packed) {
      modules.batch_max = 1;
      return modules;
    }
    if (packed->unpacked.empty()) return modules;  // Our own kernels take any shape.
    std::size_t bytes = 0;
    for (const at::Tensor& weight : packed->unpacked) bytes += weight.nbytes();
    const auto keep = [&](int8::Repacked repacked) {
      // Other backends may still read what they were given.
      if (engine.backend == Int8Backend::onednn)
        std::ranges::move(repacked.unpacked, std::back_inserter(modules.unpacked));
      return std::move(repacked.module);
    };
    if (bytes <= second_copy_bytes_max) {
      modules.batch = keep(int8::pack_again(modules.single, engine.backend).value());
    } else {
      modules.batch_max = 1;
    }
    modules.single =
        keep(std::move(*packed));  // What it was packed in holds weights that nobody else can free.
    return modules;
  });
}

}  // namespace rivulet
