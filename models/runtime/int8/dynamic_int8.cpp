#include <ATen/core/dispatch/Dispatcher.h>
#include <spdlog/fmt/fmt.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include "models/runtime/engine_module.h"
#include "models/runtime/int8/module_int8.h"
#include "models/runtime/model_impl.h"

// LibTorch's own dynamic pass crashes on what C++ defines; so the layers are replaced in the frozen graph.
namespace rivulet::int8 {
namespace {

using torch::jit::Block;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

c10::IValue call(const char* name, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(stack);
  return std::move(stack.at(0));
}

/// The tensors of a list that does not hang on the input; nothing otherwise.
std::optional<std::vector<at::Tensor>> constant_tensors(Value* list) {
  std::vector<at::Tensor> tensors;
  if (const auto constant = torch::jit::toIValue(list)) {
    if (!constant->isTensorList()) return std::nullopt;
    for (const at::Tensor& tensor : constant->toTensorVector()) tensors.push_back(tensor);
    return tensors;
  }
  if (list->node()->kind() != c10::prim::ListConstruct) return std::nullopt;
  for (Value* element : list->node()->inputs()) {
    const auto constant = torch::jit::toIValue(element);
    if (!constant || !constant->isTensor()) return std::nullopt;
    tensors.push_back(constant->toTensor());
  }
  return tensors;
}

class DynamicRewrite {
 public:
  DynamicRewrite(Module& module, ActivationBits bits)
      : module_(module), reduce_range_(bits == ActivationBits::seven) {}

  /// @return how many layers were replaced.
  std::size_t run() {
    const auto graph = module_.get_method("forward").graph();
    visit(*graph->block());
    torch::jit::EliminateDeadCode(graph);
    return replaced_;
  }

 private:
  void visit(Block& block) {
    const std::vector<Node*> nodes(block.nodes().begin(), block.nodes().end());
    for (Node* node : nodes) {
      for (Block* inner : node->blocks()) visit(*inner);
      if (node->kind() == c10::aten::linear) replace_linear(node);
      if (node->kind() == c10::Symbol::aten("gru") && is_plain(node, 9)) replace_recurrent(node, "gru");
      if (node->kind() == c10::Symbol::aten("lstm") && is_plain(node, 9)) replace_recurrent(node, "lstm");
    }
  }

  /// Not of packed sequences, and with biases, which the packed cells need.
  static bool is_plain(Node* node, std::size_t inputs) {
    if (node->inputs().size() != inputs || node->schema().overload_name() != "input") return false;
    const auto has_biases = torch::jit::toIValue(node->input(3));
    return has_biases && has_biases->isBool() && has_biases->toBool();
  }

  static bool is_weight(const at::Tensor& tensor) {
    return tensor.defined() && tensor.dim() == 2 && tensor.scalar_type() == at::kFloat;
  }

  static c10::IValue pack(const at::Tensor& weight, const c10::IValue& bias) {
    const QuantizedWeight quantized = quantize_weight(weight);
    const at::Tensor zeros = at::zeros_like(quantized.scales, at::kLong);
    const at::Tensor tensor = at::_make_per_channel_quantized_tensor(
        quantized.entries, quantized.scales.to(at::kDouble), zeros, /*axis=*/0);
    return call("quantized::linear_prepack", {tensor, bias});
  }

  /// A value that is `constant`; a graph's own constants can't be packed weights.
  Value* attribute(Node* before, const c10::IValue& constant) {
    const std::string name = fmt::format("_rivulet_packed_{}", attributes_++);
    module_.register_attribute(name, constant.type(), constant);
    torch::jit::Graph& graph = *before->owningGraph();
    const torch::jit::WithInsertPoint place(before);
    return graph.insertGetAttr(graph.inputs().at(0), name);
  }

  void replace(Node* node, c10::Symbol kind, std::span<Value* const> inputs) {
    torch::jit::Graph& graph = *node->owningGraph();
    Node* replacement = graph.create(kind, {inputs.data(), inputs.size()}, node->outputs().size());
    for (std::size_t i = 0; i < node->outputs().size(); ++i)
      replacement->output(i)->setType(node->output(i)->type());
    replacement->insertBefore(node);
    node->replaceAllUsesWith(replacement);
    node->destroy();
    ++replaced_;
  }

  void replace_linear(Node* node) {
    const auto weight = torch::jit::toIValue(node->input(1));
    const auto bias = torch::jit::toIValue(node->input(2));
    if (!weight || !weight->isTensor() || !is_weight(weight->toTensor()) || !bias) return;
    Value* packed = attribute(node, pack(weight->toTensor(), *bias));
    const torch::jit::WithInsertPoint place(node);
    Value* reduce_range = node->owningGraph()->insertConstant(reduce_range_);
    replace(node, c10::Symbol::fromQualString("quantized::linear_dynamic"),
            std::array{node->input(0), packed, reduce_range});
  }

  void replace_recurrent(Node* node, const std::string& kind) {
    const auto tensors = constant_tensors(node->input(2));
    constexpr std::size_t a_cell = 4;  // Weights of input and state, biases of input and state.
    if (!tensors || tensors->empty() || tensors->size() % a_cell != 0) return;
    std::vector<c10::IValue> cells;
    for (std::size_t i = 0; i < tensors->size(); i += a_cell) {
      if (!is_weight((*tensors)[i]) || !is_weight((*tensors)[i + 1])) return;
      cells.push_back(
          call("quantized::make_quantized_cell_params_dynamic",
               {pack((*tensors)[i], (*tensors)[i + 2]), pack((*tensors)[i + 1], (*tensors)[i + 3]),
                (*tensors)[i + 2], (*tensors)[i + 3], reduce_range_}));
    }
    c10::impl::GenericList list(cells.front().type());
    for (const c10::IValue& cell : cells) list.push_back(cell);
    std::vector<Value*> inputs(node->inputs().begin(), node->inputs().end());
    inputs[2] = attribute(node, list);
    if (kind == "lstm") {
      const torch::jit::WithInsertPoint place(node);
      inputs.push_back(node->owningGraph()->insertConstant(static_cast<std::int64_t>(at::kChar)));
      inputs.push_back(node->owningGraph()->insertConstant(false));
    }
    replace(node, c10::Symbol::aten("quantized_" + kind), inputs);
  }

  Module& module_;
  bool reduce_range_;
  std::size_t replaced_ = 0;
  std::size_t attributes_ = 0;
};

}  // namespace

Result<Module> build_dynamic(const ModuleFactory& make, Int8Backend backend, ActivationBits bits) {
  Result<Module> built = catch_torch("building dynamic int8", [&]() -> Result<Module> {
    const at::NoGradGuard no_grad;
    Module frozen = torch::jit::freeze(make());
    {
      const BackendGuard guard(backend);
      if (DynamicRewrite(frozen, bits).run() == 0)
        return fail(Errc::unsupported, "the model has no dense, GRU or LSTM layer with constant weights");
    }
    return optimize_frozen(std::move(frozen));
  });
  if (!built && built.error().code == Errc::internal) built.error().code = Errc::unsupported;
  return built;
}

}  // namespace rivulet::int8
