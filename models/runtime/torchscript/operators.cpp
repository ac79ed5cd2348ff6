#include "models/runtime/torchscript/operators.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <set>
#include <string>

#include "models/runtime/model_impl.h"
#include "models/runtime/torchscript/allowed_operators.h"
#include "models/runtime/torchscript/bounds.h"
#include "models/runtime/torchscript/graph_values.h"
#include "models/runtime/torchscript/kept_state.h"
#include "models/runtime/torchscript/refusal.h"

namespace rivulet::torchscript {
namespace {

using torch::jit::Block;
using torch::jit::Function;
using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

constexpr double turns_max = 1 << 24;  // Of loops within each other together.
constexpr int depth_max = 64;          // Of blocks within each other.

/// The way out, where the class says what was meant.
std::string why_no_object(const c10::Type& type) {
  constexpr std::string_view root = "__torch__.";
  std::string name = type.str();
  if (name.starts_with(root)) name.erase(0, root.size());
  if (name.find("grad_mode.") != std::string::npos && name.ends_with(".no_grad")) {
    return "as 'with torch.no_grad()' does: leave it out, and call detach() on what shall have no gradient";
  }
  return fmt::format("which makes an object of the class {}: a model may have none but its modules",
                     to_printable(name));
}

class Inspection {
 public:
  Status visit(Function& function) {
    if (!seen_.insert(&function).second) return {};
    if (!function.isGraphFunction())
      return fail(Errc::refused,
                  fmt::format("it calls {}, which is no TorchScript", function.qualname().qualifiedName()));
    function.ensure_defined();
    return visit(*torch::jit::toGraphFunction(function).graph()->block(), 0);
  }

 private:
  Status visit(const Block& block, int depth) {
    if (depth > depth_max) return fail(Errc::refused, "its code nests too deeply");
    for (const Node* node : block.nodes()) {
      if (Status status = visit(*node); !status) return status;
      for (const Block* inner : node->blocks()) {
        if (Status status = visit(*inner, depth + 1); !status) return status;
      }
    }
    return {};
  }

  Status visit(const Node& node) {
    if (node.kind() == c10::prim::CreateObject) return refuse(node, why_no_object(*node.output()->type()));
    if (!is_allowed_operator(node.kind().toQualString()))
      return refuse(node, "which is not among the operators that a model may use (docs/security.md)");
    for (const Value* output : node.outputs()) {
      if (can_hold_objects(*output->type()))
        return refuse(
            node, fmt::format("which gives {}: an object of a class", to_printable(output->type()->str())));
    }
    if (node.kind() == c10::prim::SetAttr && !node.input(1)->type()->isSubtypeOf(*c10::TensorType::get()))
      return refuse(node, "to keep a number between calls: keep it in a tensor, as a buffer");
    if (node.kind() == c10::prim::CallFunction) {
      const auto type = node.input(0)->type()->cast<c10::FunctionType>();
      if (!type) return refuse(node, "on a function that is not known beforehand");
      return visit(*type->function());
    }
    if (node.kind() == c10::prim::CallMethod) {
      const auto type = node.input(0)->type()->cast<c10::ClassType>();
      Function* method = type && type->is_module() ? type->findMethod(node.s(c10::attr::name)) : nullptr;
      if (method == nullptr) return refuse(node, "on something else than a submodule");
      return visit(*method);
    }
    return {};
  }

  std::set<const Function*> seen_;
};

/// LibTorch keeps a norm for each row (or column) of v where it has room for the entries of g, and looks at
/// neither's size.
Status check_weight_norm(const Node& node, Bounds& bounds) {
  const auto v = bounds.held(node.input(0));
  const auto g = bounds.held(node.input(1));
  const auto dim = torch::jit::toIValue(node.input(2));
  if (!v || !g || !v->defined() || !g->defined() || !dim || !dim->isInt())
    return refuse(node, "on something else than parameters as torch.nn.utils.weight_norm makes them");
  const bool of_all = dim->toInt() == -1;
  const bool of_one = dim->toInt() >= 0 && dim->toInt() < v->dim();
  const std::int64_t norms = of_one ? v->size(dim->toInt()) : 1;
  if ((!of_all && !of_one) || v->numel() == 0 || g->numel() != norms)
    return refuse(node, "and has not as many norms as its tensor has rows");
  return {};
}

/// @param turns of the loops around the block.
Status check_sizes(const Block& block, Bounds& bounds, double turns) {
  for (const Node* node : block.nodes()) {
    if (node->kind() == c10::prim::CallMethod || node->kind() == c10::prim::CallFunction)
      return refuse(*node, "on something that is not known beforehand");
    if (kind_of(*node) == "_weight_norm") {
      if (Status status = check_weight_norm(*node, bounds); !status) return status;
    }
    double inner_turns = turns;
    if (node->kind() == c10::prim::Loop) {
      const auto bound = bounds.of(node->input(0));
      inner_turns *= std::max(1.0, bound.value_or(turns_max + 1));
      if (inner_turns > turns_max) {
        return refuse(
            *node,
            "and how often it turns follows neither from a small constant nor from the sizes of tensors, or "
            "from "
            "lists that the code changes: write 'for i in range(n)' over such a number, not 'while'");
      }
    }
    for (const Block* inner : node->blocks()) {
      if (Status status = check_sizes(*inner, bounds, inner_turns); !status) return status;
    }
  }
  return {};
}

Status check_forward(const Module& module) {
  const auto method = module.find_method("forward");
  if (!method) return fail(Errc::invalid, "it has no method 'forward'");
  const c10::FunctionSchema& schema = method->function().getSchema();
  const auto& arguments = schema.arguments();  // The first one is self.
  bool good = arguments.size() >= 2 && arguments[1].type()->isSubtypeOf(*c10::TensorType::get());
  for (std::size_t i = 2; i < arguments.size(); ++i) good = good && arguments[i].default_value().has_value();
  if (!good)
    return fail(Errc::invalid, "its forward must take one tensor, and nothing else without a default");
  if (schema.returns().size() != 1 || !schema.returns()[0].type()->isSubtypeOf(*c10::TensorType::get())) {
    return fail(Errc::invalid,
                fmt::format("its forward returns {}; it must return one tensor",
                            schema.returns().empty() ? "nothing" : schema.returns()[0].type()->str()));
  }
  return {};
}

Status check_all(const Module& module) {
  if (Status status = check_forward(module); !status) return status;
  Inspection inspection;
  for (const Module& part : module.modules()) {
    const auto type = part.type();
    if (!type->getForwardHooks().empty() || !type->getForwardPreHooks().empty())
      return fail(Errc::refused, "it has forward hooks: put what they do into forward");
    for (Function* method : type->methods()) {
      if (Status status = inspection.visit(*method); !status) return status;
    }
  }
  // And what no module's code reaches, of which classes an attribute has: a release would carry it on.
  for (Function* function : module._ivalue()->compilation_unit()->get_functions()) {
    if (function == nullptr) continue;
    if (Status status = inspection.visit(*function); !status) return status;
  }
  const std::shared_ptr<Graph> graph = inlined_forward(module);
  if (Status status = check_kept_state(graph); !status) return status;
  Bounds bounds(module, graph);
  return check_sizes(*graph->block(), bounds, 1);
}

bool has_calls(const Block& block) {
  for (const Node* node : block.nodes()) {
    if (node->kind() == c10::prim::CallMethod || node->kind() == c10::prim::CallFunction) return true;
    for (const Block* inner : node->blocks()) {
      if (has_calls(*inner)) return true;
    }
  }
  return false;
}

}  // namespace

std::shared_ptr<Graph> inlined_forward(const Module& module) {
  std::shared_ptr<Graph> graph = module.get_method("forward").graph()->copy();
  // With the profiling executor one pass reaches all levels, without it one level each.
  for (int level = 0; level < depth_max && has_calls(*graph->block()); ++level) torch::jit::Inline(*graph);
  return graph;
}

bool can_hold_objects(const c10::Type& type, int depth) {
  if (depth > depth_max) return true;
  switch (type.kind()) {
    case c10::TypeKind::ClassType:
    case c10::TypeKind::InterfaceType: return !type.is_module();
    case c10::TypeKind::AnyClassType:
    case c10::TypeKind::PyObjectType:
    case c10::TypeKind::CapsuleType:
    case c10::TypeKind::FutureType:
    case c10::TypeKind::RRefType: return true;
    default:
      return std::ranges::any_of(type.containedTypes(), [&](const c10::TypePtr& contained) {
        return can_hold_objects(*contained, depth + 1);
      });
  }
}

Status check_operators(const Module& module) {
  return catch_torch("reading the code", [&]() -> Status { return check_all(module); });
}

}  // namespace rivulet::torchscript
