#include "models/runtime/torchscript/bounds.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "models/runtime/torchscript/graph_values.h"

namespace rivulet::torchscript {
namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

constexpr int depth_max = 64;  // Of an expression.

/// Of floats nothing is known: a small one divides a number into a great one.
bool is_float(const Value* value) { return value->type()->isSubtypeOf(*c10::FloatType::get()); }

std::optional<double> greatest(const c10::IValue& value) {
  if (value.isInt()) return std::abs(static_cast<double>(value.toInt()));
  if (!value.isIntList()) return std::nullopt;
  double most = 0;
  for (const std::int64_t entry : value.toIntVector())
    most = std::max(most, std::abs(static_cast<double>(entry)));
  return most;
}

std::optional<double> size_of(const c10::IValue& value) {
  if (value.isList()) return static_cast<double>(value.toListRef().size());
  if (value.isString()) return static_cast<double>(value.toStringRef().size());
  return std::nullopt;
}

}  // namespace

Bounds::Bounds(const torch::jit::Module& module, std::shared_ptr<torch::jit::Graph> graph)
    : module_(module), graph_(std::move(graph)) {
  look_for_changes(*graph_->block());
}

std::optional<double> Bounds::of(const Value* value) { return magnitude(value); }

std::optional<at::Tensor> Bounds::held(const Value* value) {
  const Node& node = *value->node();
  if (node.kind() != c10::prim::GetAttr || !is_tensor(value) || resizes_ || reshapes_) return std::nullopt;
  if (set_attributes_.contains(node.s(c10::attr::name))) return std::nullopt;
  const auto known = constant(value);
  return known && known->isTensor() ? std::optional(known->toTensor()) : std::nullopt;
}

std::optional<double> Bounds::magnitude(const Value* value) {
  // Each value once: n + n, doubled forty times, would otherwise be looked at 2^40 times.
  if (const auto found = magnitudes_.find(value); found != magnitudes_.end()) return found->second;
  const Deeper deeper(depth_);
  if (depth_ > depth_max || is_float(value) || is_changed(value)) return std::nullopt;
  magnitudes_[value] = std::nullopt;  // Should it follow from itself.
  return magnitudes_[value] = find_magnitude(value);
}

std::optional<double> Bounds::length(const Value* value) {
  if (is_tensor(value)) return size(value);
  if (const auto found = lengths_.find(value); found != lengths_.end()) return found->second;
  const Deeper deeper(depth_);
  if (depth_ > depth_max) return std::nullopt;
  lengths_[value] = std::nullopt;  // As above: a loop over a list may make it longer.
  if (!is_changed(value)) return lengths_[value] = find_length(value);
  if (value->node()->kind() != c10::prim::ListConstruct) return std::nullopt;
  const auto added = additions(*graph_->block(), value);
  if (!added) return std::nullopt;
  return lengths_[value] = static_cast<double>(value->node()->inputs().size()) + *added;
}

std::optional<double> Bounds::find_magnitude(const Value* value) {
  if (const auto known = constant(value)) return greatest(*known);
  const Node& node = *value->node();
  const std::string_view kind = kind_of(node);
  if (kind == "size") return size(node.input(0));
  if (kind == "dim" || kind == "dtype" || kind == "layout") return size_nominal;  // Small, all of them.
  if (kind == "len") return length(node.input(0));
  if (kind == "If") return of_branches(value, &Bounds::magnitude);
  // A remainder is smaller than what it divides by, and may be much greater than what is divided: -1 % n is
  // n - 1.
  if (kind == "remainder") return magnitude(node.input(1));
  static constexpr std::array<std::string_view, 10> no_greater = {
      "__getitem__", "neg",         "Int",      "ListUnpack", "unchecked_cast",
      "list",        "NumToTensor", "floordiv", "slice",      "copy"};
  if (!is_one_of(kind, no_greater)) return of_arithmetic(kind, node);
  // Divided by a fraction a number grows.
  const bool by_fraction = kind == "floordiv" && !node.input(1)->type()->isSubtypeOf(*c10::IntType::get());
  return by_fraction ? std::nullopt : magnitude(node.input(0));
}

std::optional<double> Bounds::of_arithmetic(std::string_view kind, const Node& node) {
  const bool sum = kind == "add" || kind == "sub" || kind == "__range_length";
  const bool most = kind == "min" || kind == "max" || kind == "ListConstruct";
  if (!sum && !most && kind != "mul") return std::nullopt;
  // The third input of a sum of tensors is a factor of the second.
  const bool has_factor = kind != "__range_length" && sum && node.inputs().size() == 3;
  double total = kind == "mul" ? 1 : 0;
  double last = 0;
  for (std::size_t i = 0; i < node.inputs().size(); ++i) {
    const auto bound = magnitude(node.input(i));
    if (!bound) return std::nullopt;
    if (has_factor && i == 2) {
      total += last * *bound;
    } else {
      total = sum ? total + *bound : most ? std::max(total, *bound) : total * *bound;
    }
    last = *bound;
  }
  return total;
}

std::optional<double> Bounds::find_length(const Value* value) {
  if (const auto known = constant(value)) return size_of(*known);
  const Node& node = *value->node();
  const std::string_view kind = kind_of(node);
  if (kind == "ListConstruct") return static_cast<double>(node.inputs().size());
  if (kind == "If") return of_branches(value, &Bounds::length);
  if (kind == "size") return size_nominal;  // As many as it has dimensions.
  static constexpr std::array<std::string_view, 6> by_size = {"unbind", "split",        "unsafe_split",
                                                              "chunk",  "unsafe_chunk", "ConstantChunk"};
  if (is_one_of(kind, by_size)) return size(node.input(0));
  if (kind == "meshgrid") return length(node.input(0));
  static constexpr std::array<std::string_view, 5> by_argument = {
      "split_with_sizes", "unsafe_split_with_sizes", "hsplit", "vsplit", "tensor_split"};
  if (is_one_of(kind, by_argument)) return parts(node);
  static constexpr std::array<std::string_view, 4> no_longer = {"list", "slice", "copy", "unchecked_cast"};
  if (is_one_of(kind, no_longer)) return length(node.input(0));
  if (kind == "rangelist") return magnitude(node.input(0));
  if (kind != "add" || node.inputs().size() != 2) return std::nullopt;
  const auto one = length(node.input(0));
  const auto other = length(node.input(1));
  if (!one || !other) return std::nullopt;
  return *one + *other;
}

/// How many parts of a tensor there are by the second argument, a number or a list of sizes or places.
std::optional<double> Bounds::parts(const Node& node) {
  const Value* argument = node.input(1);
  if (argument->type()->isSubtypeOf(*c10::IntType::get())) return magnitude(argument);
  const auto count = is_tensor(argument) ? std::nullopt : length(argument);
  return count ? std::optional(*count + 1) : std::nullopt;
}

std::optional<double> Bounds::of_branches(const Value* value,
                                          std::optional<double> (Bounds::*find)(const Value*)) {
  double most = 0;
  for (const Block* block : value->node()->blocks()) {
    const auto bound = (this->*find)(block->outputs()[value->offset()]);
    if (!bound) return std::nullopt;
    most = std::max(most, *bound);
  }
  return most;
}

/// The value of a constant, or of an attribute: nothing may set one that is no tensor.
std::optional<c10::IValue> Bounds::constant(const Value* value, int depth) const {
  if (depth > depth_max) return std::nullopt;
  if (value == graph_->inputs()[0]) return c10::IValue(module_._ivalue());
  if (const auto known = torch::jit::toIValue(value)) return *known;
  const Node* node = value->node();
  if (node->kind() != c10::prim::GetAttr) return std::nullopt;
  const auto owner = constant(node->input(0), depth + 1);
  if (!owner || !owner->isObject()) return std::nullopt;
  return owner->toObject()->getAttr(node->s(c10::attr::name));
}

std::optional<double> Bounds::additions(const Block& block, const Value* list) {
  double total = 0;
  for (const Node* node : block.nodes()) {
    double inner = 0;
    for (const Block* within : node->blocks()) {
      const auto added = additions(*within, list);
      if (!added) return std::nullopt;
      inner += *added;
    }
    if (inner > 0 && node->kind() == c10::prim::Loop) {
      const auto turns = magnitude(node->input(0));
      if (!turns) return std::nullopt;
      inner *= *turns;
    }
    total += inner;
    if (!changes_list(*node) || !aliases_->mayAlias(node->input(0), list)) continue;
    const std::string_view kind = kind_of(*node);
    if (!is_one_of(kind, adds_one_or_none)) return std::nullopt;
    if (kind == "append" || kind == "insert") ++total;
  }
  return total;
}

/// Whether anything in the graph writes to it, or to what it may be another name of.
bool Bounds::is_changed(const Value* value) {
  if (!aliases_) aliases_ = std::make_unique<torch::jit::AliasDb>(graph_);
  return aliases_->hasWriters(value);
}

}  // namespace rivulet::torchscript
