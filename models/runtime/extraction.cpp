#include "models/runtime/extraction.h"

#include <set>
#include <string>

namespace rivulet {
namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;

/// What a graph takes from its module.
class Needs {
 public:
  explicit Needs(const Graph& graph) : self_(graph.inputs().at(0)) { visit(*graph.block()); }

  [[nodiscard]] bool is_alone() const { return alone_; }
  [[nodiscard]] const std::set<std::string>& attributes() const { return attributes_; }

 private:
  void visit(const Block& block) {
    for (const Node* node : block.nodes()) {
      for (const Block* inner : node->blocks()) visit(*inner);
      const auto kind = node->kind();
      if (kind == c10::prim::GetAttr && node->input() == self_) {
        attributes_.insert(node->s(c10::attr::name));
        continue;
      }
      for (const torch::jit::Value* input : node->inputs()) alone_ = alone_ && input != self_;
      for (const auto other :
           {c10::prim::GetAttr, c10::prim::SetAttr, c10::prim::CallMethod, c10::prim::CallFunction,
            c10::prim::CreateObject, c10::prim::Closure, c10::prim::fork}) {
        alone_ = alone_ && kind != other;
      }
    }
  }

  const torch::jit::Value* self_;
  bool alone_ = true;
  std::set<std::string> attributes_;
};

}  // namespace

std::optional<Module> extract(const Module& module, const AttributeCopy& copy) {
  const auto graph = module.get_method("forward").graph()->copy();
  const Needs needs(*graph);
  if (!needs.is_alone()) return std::nullopt;
  const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  const c10::QualifiedName name("__torch__.rivulet.Extracted");
  const auto type = c10::ClassType::create(name, unit, /*is_module=*/true);
  unit->register_type(type);
  Module extracted(unit, type);
  for (const std::string& attribute : needs.attributes()) {
    const c10::IValue value = copy ? copy(module.attr(attribute)) : module.attr(attribute);
    extracted.register_attribute(attribute, module.type()->getAttribute(attribute), value);
  }
  graph->inputs().at(0)->setType(type);
  type->addMethod(unit->create_function(c10::QualifiedName(name, "forward"), graph));
  return extracted;
}

}  // namespace rivulet
