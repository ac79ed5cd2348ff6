#include "models/runtime/torchscript/kept_state.h"

#include <torch/csrc/jit/passes/constant_propagation.h>

#include <algorithm>
#include <set>
#include <vector>

#include "models/runtime/torchscript/graph_values.h"
#include "models/runtime/torchscript/refusal.h"

namespace rivulet::torchscript {
namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// Whether a list or dictionary was made in this call, on whatever way it came here. An attribute, and what
/// comes out of another container, may have been there before.
class Origins {
 public:
  bool is_new(const Value* container) {
    // What is being looked at already, around a loop, is as new as the rest of its ways.
    if (!seen_.insert(container).second) return true;
    const Node& node = *container->node();
    switch (node.kind()) {
      case c10::prim::ListConstruct:
      case c10::prim::DictConstruct:
      case c10::prim::Uninitialized: return true;
      case c10::prim::unchecked_cast: return is_new(node.input(0));
      case c10::prim::If: return leaves_new(node, container->offset());
      case c10::prim::Loop:
        return is_new(node.input(container->offset() + 2)) && leaves_new(node, container->offset() + 1);
      case c10::prim::Param: return is_carried_new(node, container->offset());
      default: return gives_new(node, container->offset());
    }
  }

 private:
  bool leaves_new(const Node& node, std::size_t output) {
    return std::ranges::all_of(node.blocks(),
                               [&](const Block* block) { return is_new(block->outputs()[output]); });
  }

  /// @param at 0 is the number of the turn.
  bool is_carried_new(const Node& body, std::size_t at) {
    const Node* loop = body.owningBlock()->owningNode();
    if (loop == nullptr || loop->kind() != c10::prim::Loop || at == 0) return false;
    return is_new(loop->input(at + 1)) && leaves_new(*loop, at);
  }

  /// An operator says which of its inputs an answer may be, or that it may be a part of anything ("*").
  bool gives_new(const Node& node, std::size_t output) {
    const c10::FunctionSchema* schema = node.maybeSchema();
    if (schema == nullptr || output >= schema->returns().size()) return false;
    // Of "Tensor(a)[]" the entries may be there already, and the list is new.
    const c10::AliasInfo* alias = schema->returns()[output].alias_info();
    if (alias == nullptr || alias->beforeSets().empty()) return true;
    return writes_to_first(node) && is_new(node.input(0));
  }

  std::set<const Value*> seen_;
};

Status check_containers(const Block& block) {
  for (const Node* node : block.nodes()) {
    if (changes_container(*node) && !Origins().is_new(node->input(0)))
      return refuse(*node,
                    "on a list or dictionary that may be one of its attributes: make a new one in forward");
    for (const Block* inner : node->blocks()) {
      if (Status status = check_containers(*inner); !status) return status;
    }
  }
  return {};
}

Status check_no_setting(const Block& block) {
  for (const Node* node : block.nodes()) {
    if (node->kind() == c10::prim::SetAttr)
      return refuse(*node, "to keep something between answers: only what is under 'if self.training' may");
    for (const Block* inner : node->blocks()) {
      if (Status status = check_no_setting(*inner); !status) return status;
    }
  }
  return {};
}

void find_modes(Block& block, std::vector<Node*>& found) {
  for (Node* node : block.nodes()) {
    const bool reads = node->kind() == c10::prim::GetAttr && node->s(c10::attr::name) == "training";
    if (reads && node->output()->type()->kind() == c10::TypeKind::BoolType) found.push_back(node);
    for (Block* inner : node->blocks()) find_modes(*inner, found);
  }
}

/// What is left of it after eval().
std::shared_ptr<Graph> without_training(Graph& forward) {
  std::shared_ptr<Graph> graph = forward.copy();
  std::vector<Node*> modes;
  find_modes(*graph->block(), modes);
  for (Node* mode : modes) {
    const torch::jit::WithInsertPoint at(mode);
    mode->output()->replaceAllUsesWith(graph->insertConstant(false));
  }
  torch::jit::ConstantPropagationImmutableTypes(graph);
  return graph;
}

}  // namespace

Status check_kept_state(const std::shared_ptr<Graph>& forward) {
  if (Status status = check_containers(*forward->block()); !status) return status;
  return check_no_setting(*without_training(*forward)->block());
}

}  // namespace rivulet::torchscript
