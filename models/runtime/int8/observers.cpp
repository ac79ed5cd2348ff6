#include "models/runtime/int8/observers.h"

#include <spdlog/fmt/fmt.h>
#include <torch/csrc/jit/passes/fold_conv_bn.h>
#include <torch/csrc/jit/passes/quantization/insert_observers.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "models/runtime/int8/bounded_relu.h"

namespace rivulet::int8 {
namespace {

using torch::jit::Block;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

constexpr const char* kind_attribute = "rivulet_observer";
constexpr std::int64_t watches_activation = 1;
constexpr std::int64_t watches_weight = 2;

Module make_observer(const char* name, std::int64_t kind, at::ScalarType type, at::QScheme scheme) {
  Module observer(c10::QualifiedName(fmt::format("__torch__.rivulet.{}", name)));
  // The passes read the two as integers.
  observer.register_attribute("dtype", c10::IntType::get(), static_cast<std::int64_t>(type));
  observer.register_attribute("qscheme", c10::IntType::get(), static_cast<std::int64_t>(scheme));
  observer.register_attribute(kind_attribute, c10::IntType::get(), kind);
  observer.register_buffer("scale", at::ones({1}));
  observer.register_buffer("zero_point", at::zeros({1}, at::kInt));
  observer.define(
      "def calculate_qparams(self):\n"
      "    return self.scale, self.zero_point\n");
  return observer;
}

Module make_activation_observer() {
  Module observer =
      make_observer("ActivationObserver", watches_activation, at::kQUInt8, at::kPerTensorAffine);
  observer.register_buffer("low", at::zeros({}));
  observer.register_buffer("high", at::zeros({}));
  observer.define(
      "def forward(self, x):\n"
      "    low, high = torch.aminmax(x)\n"
      "    self.low.copy_(torch.minimum(self.low, low))\n"
      "    self.high.copy_(torch.maximum(self.high, high))\n"
      "    return x\n");
  return observer;
}

Module make_weight_observer() {
  Module observer = make_observer("WeightObserver", watches_weight, at::kQInt8, at::kPerChannelSymmetric);
  observer.register_attribute("ch_axis", c10::IntType::get(), std::int64_t{0});
  observer.define("def forward(self, x):\n    return x\n");  // Its scales are set from outside.
  return observer;
}

bool is_observer(const Module& module, std::int64_t kind) {
  return module.hasattr(kind_attribute) && module.attr(kind_attribute).toInt() == kind;
}

/// The module that `value` stands for in a graph of `self`; nothing if it is no attribute of an attribute …
/// of it.
std::optional<Module> module_of(const Module& self, Value* value) {
  if (value == value->owningGraph()->inputs().at(0)) return self;
  Node* node = value->node();
  if (node->kind() != c10::prim::GetAttr) return std::nullopt;
  const std::optional<Module> owner = module_of(self, node->input());
  if (!owner) return std::nullopt;
  const c10::IValue attribute = owner->attr(node->s(c10::attr::name));
  if (!attribute.isModule()) return std::nullopt;
  return attribute.toModule();
}

/// Walks a module as `forward` runs, and finds its observers. LibTorch inserts them in the order of a hash
/// table over addresses, so their own order says nothing: what counts is the place of what they watch.
class ObserverWalk {
 public:
  std::vector<Module> activations;
  std::vector<float> bounds;

  void visit(const Module& module, const std::string& method) {
    if (!visited_.insert({module._ivalue().get(), method}).second) return;
    const auto graph = module.get_method(method).graph();
    std::map<Value*, Watch> watched;
    find_watched(module, *graph->block(), watched);
    visit_block(module, *graph->block(), watched);
  }

 private:
  struct Watch {
    Module observer;
    Value* passed_on;  ///< What the observer answers.
  };

  void find_watched(const Module& module, Block& block, std::map<Value*, Watch>& watched) {
    for (Node* node : block.nodes()) {
      for (Block* inner : node->blocks()) find_watched(module, *inner, watched);
      if (node->kind() != c10::prim::CallMethod) continue;
      const std::optional<Module> callee = module_of(module, node->input(0));
      if (!callee) continue;
      if (is_observer(*callee, watches_activation))
        watched.emplace(node->input(1), Watch{*callee, node->output()});
      if (is_observer(*callee, watches_weight)) requantize(module, node->input(1), *callee);
    }
  }

  void visit_block(const Module& module, Block& block, const std::map<Value*, Watch>& watched) {
    for (Value* input : block.inputs()) take(input, watched);
    for (Node* node : block.nodes()) {
      for (Block* inner : node->blocks()) visit_block(module, *inner, watched);
      if (node->kind() == c10::prim::CallMethod)
        if (const std::optional<Module> callee = module_of(module, node->input(0));
            callee && !callee->hasattr(kind_attribute))
          visit(*callee, node->s(c10::attr::name));
      for (Value* output : node->outputs()) take(output, watched);
    }
  }

  void take(Value* value, const std::map<Value*, Watch>& watched) {
    const auto found = watched.find(value);
    if (found == watched.end()) return;
    activations.push_back(found->second.observer);
    bounds.push_back(bound_of(value, found->second));
  }

  /// Of a ReLU that only goes on to bounded ones: their bound.
  static float bound_of(Value* value, const Watch& watch) {
    float bound = 0;
    if (value->node()->kind() != c10::aten::relu) return std::numeric_limits<float>::infinity();
    for (Value* each : {value, watch.passed_on})
      for (const torch::jit::Use& use : each->uses()) {
        if (use.user == watch.passed_on->node()) continue;
        const std::optional<float> next = bounded_relu(use.user);
        if (!next) return std::numeric_limits<float>::infinity();
        bound = std::max(bound, *next);
      }
    return bound;
  }

  /// Gives a weight's observer the scales of our snapshots, and this copy of the module the weight that they
  /// decode to, which LibTorch then rounds to the same integers; the module that was copied keeps its own. A
  /// weight that is computed has no scales: what uses it will be refused.
  static void requantize(const Module& module, Value* weight, Module observer) {
    Node* node = weight->node();
    if (node->kind() != c10::prim::GetAttr) return;
    std::optional<Module> owner = module_of(module, node->input());
    if (!owner) return;
    const std::string& name = node->s(c10::attr::name);
    const at::Tensor tensor = owner->attr(name).toTensor();
    const QuantizedWeight quantized = quantize_weight(tensor);
    std::vector<std::int64_t> broadcast(static_cast<std::size_t>(tensor.dim()), 1);
    broadcast.front() = -1;
    owner->setattr(name, quantized.entries.to(at::kFloat) * quantized.scales.reshape(broadcast));
    observer.setattr("scale", quantized.scales);
    observer.setattr("zero_point", at::zeros_like(quantized.scales, at::kInt));
  }

  std::set<std::pair<const void*, std::string>> visited_;
};

}  // namespace

Result<std::vector<ActivationRange>> ObservedModule::ranges() const {
  std::vector<ActivationRange> ranges;
  for (std::size_t i = 0; i < activations.size(); ++i) {
    const Module& observer = activations[i];
    ranges.push_back(
        {observer.attr("low").toTensor().item<float>(), observer.attr("high").toTensor().item<float>()});
    if (std::isfinite(ranges.back().high)) ranges.back().high = std::min(ranges.back().high, bounds[i]);
    const auto [low, high] = ranges.back();
    if (!std::isfinite(low) || !std::isfinite(high) || !std::isfinite(high - low))
      return fail(Errc::corrupt,
                  fmt::format("activation {} of the model ran from {} to {} in calibration; it "
                              "must be finite",
                              ranges.size() - 1, low, high));
  }
  return ranges;
}

void ObservedModule::preload(const std::vector<ActivationRange>& ranges, ActivationBits bits) {
  for (std::size_t i = 0; i < activations.size(); ++i) {
    const ActivationStep step = step_of(ranges.at(i), bits);
    activations[i].setattr("scale", at::full({1}, step.scale, at::kFloat));
    activations[i].setattr("zero_point", at::full({1}, step.zero_point, at::kInt));
  }
}

namespace {

/// A convolution written without a bias (`None`) has one once a norm was folded into it; LibTorch's pass adds
/// it to the module, and not to what `forward` computes.
/// @param folded whether the pass gave the module its bias.
void use_folded_bias(const Module& module, bool folded) {
  if (!folded || !module.hasattr("bias") || !module.find_method("forward")) return;
  const c10::IValue bias = module.attr("bias");
  if (!bias.isTensor() || !bias.toTensor().defined()) return;
  const auto graph = module.get_method("forward").graph();
  for (Node* node : graph->nodes()) {
    const bool convolves = node->kind() == c10::aten::conv1d || node->kind() == c10::aten::conv2d ||
                           node->kind() == c10::aten::conv3d;
    if (!convolves || !node->input(2)->mustBeNone()) continue;
    const torch::jit::WithInsertPoint place(node);
    node->replaceInput(2,
                       graph->insertGetAttr(graph->inputs().at(0), "bias")->setType(c10::TensorType::get()));
  }
}

}  // namespace

std::vector<std::string> submodule_names(const Module& module) {
  std::vector<std::string> names;
  for (const auto& [name, submodule] : module.named_modules())
    if (submodule.find_method("forward")) names.push_back(name);
  return names;
}

ObservedModule observe(const Module& module, const std::set<std::string>& quantized) {
  const at::NoGradGuard no_grad;
  std::set<std::string> with_bias;  // Some networks add their own bias after the convolution.
  for (const auto& [name, part] : module.named_modules()) {
    if (part.hasattr("bias") && part.attr("bias").isTensor()) with_bias.insert(name);
  }
  Module folded = torch::jit::FoldConvBatchNorm(module);
  for (const auto& [name, part] : folded.named_modules()) {
    use_folded_bias(part, !with_bias.contains(name));
    if (const auto forward = part.find_method("forward")) split_bounded_relus(*forward->graph()->block());
  }
  const Module activation = make_activation_observer();
  const Module weight = make_weight_observer();
  torch::jit::QConfigDict configuration;
  configuration[""] = c10::nullopt;
  for (const auto& [name, submodule] : module.named_modules())
    if (quantized.contains(name))
      configuration[name] = torch::jit::QConfig(activation, weight);
    else
      configuration[name] = c10::nullopt;
  ObservedModule observed{
      torch::jit::InsertObservers(folded, "forward", configuration, /*inplace=*/false), {}, {}};
  ObserverWalk walk;
  walk.visit(observed.module, "forward");
  observed.activations = std::move(walk.activations);
  observed.bounds = std::move(walk.bounds);
  return observed;
}

}  // namespace rivulet::int8
