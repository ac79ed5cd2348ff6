#include "models/runtime/int8/bounded_relu.h"

#include <cmath>
#include <string>
#include <vector>

namespace rivulet::int8 {
namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

constexpr double steps = 255;  // Of an unsigned integer of 8 bits.

std::vector<Node*> bounded_relus_of(Block& block) {
  std::vector<Node*> found;
  for (Node* node : block.nodes())
    if (bounded_relu(node)) found.push_back(node);
  return found;
}

/// The greatest number that an int8 operator with a fused ReLU can answer; infinity where that is not known.
double greatest_answer(const Value* value) {
  constexpr double unknown = std::numeric_limits<double>::infinity();
  const Node* node = value->node();
  const std::string kind = node->kind().toQualString();
  if (kind != "quantized::conv2d_relu" && kind != "quantized::linear_relu" && kind != "quantized::add_relu")
    return unknown;
  const std::size_t inputs = node->inputs().size();  // The last two: scale and zero point.
  const auto scale = torch::jit::toIValue(node->input(inputs - 2));
  const auto zero_point = torch::jit::toIValue(node->input(inputs - 1));
  if (!scale || !scale->isDouble() || !zero_point || !zero_point->isInt()) return unknown;
  return (steps - static_cast<double>(zero_point->toInt())) * scale->toDouble();
}

}  // namespace

std::optional<float> bounded_relu(const Node* node) {
  if (node->kind() != c10::aten::hardtanh || node->inputs().size() != 3) return std::nullopt;
  const auto low = torch::jit::toIValue(node->input(1));
  const auto high = torch::jit::toIValue(node->input(2));
  if (!low || !high || !low->isScalar() || !high->isScalar()) return std::nullopt;
  const auto bound = high->toScalar().to<float>();
  if (low->toScalar().to<double>() != 0 || !(bound > 0) || !std::isfinite(bound)) return std::nullopt;
  return bound;
}

void split_bounded_relus(Block& block) {
  for (Node* node : block.nodes())
    for (Block* inner : node->blocks()) split_bounded_relus(*inner);
  for (Node* node : bounded_relus_of(block)) {
    const torch::jit::WithInsertPoint place(node);
    node->replaceInput(0, node->owningGraph()->insert(c10::aten::relu, {node->input(0)}));
  }
}

void remove_saturated_bounds(Block& block) {
  for (Node* node : block.nodes())
    for (Block* inner : node->blocks()) remove_saturated_bounds(*inner);
  for (Node* node : bounded_relus_of(block)) {
    constexpr double rounding = 1 + 1e-6;  // Of the scale, which was a float32.
    if (greatest_answer(node->input(0)) > static_cast<double>(*bounded_relu(node)) * rounding) continue;
    node->output()->replaceAllUsesWith(node->input(0));
    node->destroy();
  }
}

}  // namespace rivulet::int8
