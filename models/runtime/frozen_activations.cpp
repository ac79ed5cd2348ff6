#include "models/runtime/frozen_activations.h"

#include <torch/csrc/jit/passes/remove_mutation.h>

#include <string>
#include <string_view>
#include <vector>

namespace rivulet {
namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

constexpr std::int64_t block_channels = 16;  // That the layout pads to with AVX-512; with less it pads less.

/// Whether `x` comes straight from a convolution whose answers need no padding.
bool is_unpadded(const Value* x) {
  const Node* node = x->node();
  const std::string_view kind = node->kind().toQualString();
  if (kind != "aten::conv1d" && kind != "aten::conv2d" && kind != "aten::conv3d") return false;
  const auto weight = torch::jit::toIValue(node->input(1));
  return weight && weight->isTensor() && weight->toTensor().size(0) % block_channels == 0;
}

bool is_none(const Value* value) { return value->type()->kind() == c10::TypeKind::NoneType; }

/// A clamp with one bound, which LibTorch's pass takes for one with two.
bool is_open_clamp(const Node& node) {
  return node.kind() == c10::aten::clamp && (is_none(node.input(1)) || is_none(node.input(2)));
}

/// x between two bounds, of which either may be None.
Value* bounded(Graph& graph, Value* x, Value* low, Value* high) {
  if (!is_none(low)) x = graph.insert(c10::aten::clamp_min, {x, low});
  if (!is_none(high)) x = graph.insert(c10::aten::clamp_max, {x, high});
  return x;
}

/// min(max(x + 3, 0), 6) / 6
Value* hard_sigmoid(Graph& graph, Value* x) {
  Value* shifted = graph.insert(c10::aten::add, {x, 3.0});
  return graph.insert(
      c10::aten::div,
      {graph.insert(c10::aten::clamp_max, {graph.insert(c10::aten::relu, {shifted}), 6.0}), 6.0});
}

/// @return the same in other operators; null for a node that is none of them.
Value* rewritten(Graph& graph, const Node& node, std::string_view kind) {
  Value* x = node.input(0);
  if (kind == "aten::relu6")
    return graph.insert(c10::aten::clamp_max, {graph.insert(c10::aten::relu, {x}), 6.0});
  if (kind == "aten::hardtanh") return bounded(graph, x, node.input(1), node.input(2));
  if (kind == "aten::clamp" && !node.input(1)->type()->isSubtypeOf(*c10::TensorType::get()) &&
      !node.input(2)->type()->isSubtypeOf(*c10::TensorType::get()))
    return bounded(graph, x, node.input(1), node.input(2));
  if (kind == "aten::hardsigmoid") return hard_sigmoid(graph, x);
  if (kind == "aten::hardswish") return graph.insert(c10::aten::mul, {x, hard_sigmoid(graph, x)});
  return nullptr;
}

bool is_in_place(const Node& node) {
  const std::string_view kind = node.kind().toQualString();
  return kind == "aten::relu6_" || kind == "aten::hardtanh_" || kind == "aten::clamp_" ||
         kind == "aten::hardsigmoid_" || kind == "aten::hardswish_";
}

void rewrite(Block& block) {
  const std::vector<Node*> nodes(block.nodes().begin(), block.nodes().end());
  for (Node* node : nodes) {
    for (Block* inner : node->blocks()) rewrite(*inner);
    const std::string_view kind = node->kind().toQualString();
    if (node->inputs().size() == 0 || (is_unpadded(node->input(0)) && !is_open_clamp(*node))) continue;
    const torch::jit::WithInsertPoint place(node);
    Value* value = rewritten(*node->owningGraph(), *node, kind);
    if (value == nullptr) continue;
    value->setType(node->output()->type());
    node->output()->replaceAllUsesWith(value);
    node->destroy();
  }
}

}  // namespace

void rewrite_activations(const std::shared_ptr<Graph>& graph) {
  // Of what works in place only what nobody else can see becomes another operator: a view's write is its
  // tensor's.
  torch::jit::RemoveTensorMutation(graph, [](Node* node) { return is_in_place(*node); });
  rewrite(*graph->block());
}

}  // namespace rivulet
