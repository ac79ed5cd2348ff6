// How far the sizes of tensors can go: the part of Bounds that keeps a network from making up a size to loop
// over.
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "models/runtime/torchscript/bounds.h"
#include "models/runtime/torchscript/graph_values.h"

namespace rivulet::torchscript {
namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

/// Deeper than the layers of known networks; each takes some 1 KiB of the stack.
constexpr int extent_depth_max = 1500;
/// Of a whole network, however its loops are nested.
constexpr int extents_looked_at_max = 100'000;
/// Of a loop: what its turns do not enlarge stands after two.
constexpr int tries_max = 4;

/// Their numbers are places, or parts of what is there.
constexpr auto takes_parts = std::to_array<std::string_view>(
    {"select", "slice", "narrow", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes",
     "chunk", "unbind", "unsafe_chunk", "tensor_split", "__getitem__", "roll"});
/// Their numbers enlarge a dimension by as much on either side.
constexpr auto pads = std::to_array<std::string_view>({"conv1d",
                                                       "conv2d",
                                                       "conv3d",
                                                       "convolution",
                                                       "_convolution",
                                                       "_convolution_mode",
                                                       "max_pool1d",
                                                       "max_pool2d",
                                                       "max_pool3d",
                                                       "max_pool1d_with_indices",
                                                       "max_pool2d_with_indices",
                                                       "max_pool3d_with_indices",
                                                       "avg_pool1d",
                                                       "avg_pool2d",
                                                       "avg_pool3d",
                                                       "pad",
                                                       "constant_pad_nd",
                                                       "reflection_pad1d",
                                                       "reflection_pad2d",
                                                       "reflection_pad3d",
                                                       "replication_pad1d",
                                                       "replication_pad2d",
                                                       "replication_pad3d",
                                                       "arange",
                                                       "diag_embed"});
/// Their numbers are factors.
constexpr auto multiplies = std::to_array<std::string_view>({"repeat",
                                                             "tile",
                                                             "pixel_shuffle",
                                                             "pixel_unshuffle",
                                                             "im2col",
                                                             "col2im",
                                                             "unfold",
                                                             "conv_transpose1d",
                                                             "conv_transpose2d",
                                                             "conv_transpose3d",
                                                             "upsample_nearest1d",
                                                             "upsample_nearest2d",
                                                             "upsample_nearest3d",
                                                             "upsample_linear1d",
                                                             "upsample_bilinear2d",
                                                             "upsample_bicubic2d",
                                                             "upsample_trilinear3d",
                                                             "__interpolate",
                                                             "_upsample_nearest_exact1d",
                                                             "_upsample_nearest_exact2d",
                                                             "_upsample_nearest_exact3d",
                                                             "affine_grid_generator"});
/// They give up to twice as many entries as they take, unless a number says how many.
constexpr auto doubles = std::to_array<std::string_view>({"fft_irfft"});
/// They put tensors of a list behind each other,
constexpr auto joins = std::to_array<std::string_view>(
    {"cat", "concat", "concatenate", "hstack", "vstack", "column_stack", "block_diag"});
/// or in a dimension of its own.
constexpr auto stacks = std::to_array<std::string_view>({"stack"});
/// They make one dimension of several, or as many entries as there are.
constexpr auto merges = std::to_array<std::string_view>(
    {"flatten", "ravel", "reshape", "view", "_unsafe_view", "reshape_as", "view_as", "unflatten", "nonzero",
     "masked_select", "take", "diag", "diagflat", "_pack_padded_sequence", "_pad_packed_sequence",
     "channel_shuffle"});
/// They give a tensor sizes that the code names.
constexpr auto makes_up = std::to_array<std::string_view>(
    {"expand",       "broadcast_to",   "as_strided",   "reshape",      "view",
     "_unsafe_view", "unflatten",      "repeat",       "tile",         "zeros",
     "ones",         "full",           "rand",         "randn",        "randint",
     "eye",          "linspace",       "new_full",     "new_ones",     "new_zeros",
     "hann_window",  "hamming_window", "tril_indices", "triu_indices", "affine_grid_generator",
     "fft_rfft",     "fft_irfft"});
/// Their sizes follow from the entries of tensors.
constexpr auto follows_entries =
    std::to_array<std::string_view>({"repeat_interleave", "one_hot", "to_padded_tensor",
                                     "_nested_tensor_from_mask", "_nested_tensor_from_mask_left_aligned"});
/// They change the dimensions of what they are called on. That may be an attribute, and aliases do not tell:
/// dropout gives what it got while nothing trains.
constexpr auto reorders =
    std::to_array<std::string_view>({"squeeze_", "swapaxes_", "swapdims_", "t_", "transpose_", "unsqueeze_"});
/// Fractions are factors of theirs, or divide.
constexpr auto counts_by_fractions = std::to_array<std::string_view>({"arange"});

/// What of an input decides on sizes.
enum class Content { none, numbers, tensors, unknown };

Content content_of(const c10::Type& type, int depth = 0) {
  switch (type.kind()) {
    case c10::TypeKind::TensorType: return Content::tensors;
    case c10::TypeKind::IntType:
    case c10::TypeKind::NumberType: return Content::numbers;
    case c10::TypeKind::FloatType:
    case c10::TypeKind::ComplexType:
    case c10::TypeKind::BoolType:
    case c10::TypeKind::NoneType:
    case c10::TypeKind::StringType:
    case c10::TypeKind::DeviceObjType:
    case c10::TypeKind::GeneratorType: return Content::none;
    case c10::TypeKind::ListType:
    case c10::TypeKind::OptionalType:
    case c10::TypeKind::TupleType:
    case c10::TypeKind::DictType: {
      Content all = depth > 16 ? Content::unknown : Content::none;
      for (const c10::TypePtr& contained : type.containedTypes())
        all = std::max(all, content_of(*contained, depth + 1));
      return all;
    }
    default: return Content::unknown;
  }
}

bool has_fraction(const Node& node) {
  return std::ranges::any_of(node.inputs(), [](const Value* input) {
    const auto type = input->type();
    return type->isSubtypeOf(*c10::FloatType::get()) || type->isSubtypeOf(*c10::ListType::ofFloats());
  });
}

void join(Extent& total, const Extent& more) {
  total.most = std::max(total.most, more.most);
  total.made_up = total.made_up || more.made_up;
}

/// Of what the file holds.
std::optional<Extent> extent_of(const c10::IValue& value) {
  Extent total;
  if (value.isNone()) return total;
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    if (!tensor.defined()) return total;
    for (const std::int64_t dimension : tensor.sizes())
      total.most = std::max(total.most, static_cast<double>(dimension));
    return total;
  }
  if (!value.isList()) return std::nullopt;
  for (const c10::IValue& entry : value.toListRef()) {
    const auto one = entry.isTensor() ? extent_of(entry) : std::nullopt;
    if (!one) return std::nullopt;
    join(total, *one);
  }
  return total;
}

}  // namespace

std::optional<double> Bounds::size(const Value* tensor) {
  const auto known = extent(tensor);
  return known ? std::optional(known->most) : std::nullopt;
}

std::optional<Extent> Bounds::extent(const Value* value) {
  if (const auto found = assumed_.find(value); found != assumed_.end()) return found->second;
  if (const auto found = extents_.find(value); found != extents_.end()) return found->second;
  const Deeper deeper(extent_depth_);
  if (resizes_ || extent_depth_ > extent_depth_max || ++extents_looked_at_ > extents_looked_at_max)
    return std::nullopt;
  extents_[value] = std::nullopt;  // Should it follow from itself.
  return extents_[value] = find_extent(value);
}

std::optional<Extent> Bounds::find_extent(const Value* value) {
  const Node& node = *value->node();
  if (node.kind() == c10::prim::GetAttr) return of_attribute(value);
  if (const auto known = torch::jit::toIValue(value)) return extent_of(*known);
  if (node.kind() == c10::prim::Param) {
    const Node* owner = node.owningBlock()->owningNode();
    if (owner == nullptr) return Extent{};  // What forward is called with.
    return owner->kind() == c10::prim::Loop && value->offset() > 0 ? of_loop(*owner, value->offset() - 1)
                                                                   : std::nullopt;
  }
  if (node.kind() == c10::prim::Loop) return of_loop(node, value->offset());
  if (node.kind() == c10::prim::If) {
    Extent total;
    for (const Block* block : node.blocks()) {
      const auto one = extent(block->outputs()[value->offset()]);
      if (!one) return std::nullopt;
      join(total, *one);
    }
    return total;
  }
  if (!is_tensor(value) && is_changed(value)) return of_changed_list(value);
  return of_operator(node);
}

/// A tensor that the code sets may be any; another is as the file has it.
std::optional<Extent> Bounds::of_attribute(const Value* value) {
  if (set_attributes_.contains(value->node()->s(c10::attr::name))) return std::nullopt;
  if (!is_tensor(value) && is_changed(value)) return std::nullopt;
  const auto known = constant(value);
  return known ? extent_of(*known) : std::nullopt;
}

std::optional<Extent> Bounds::of_operator(const Node& node) {
  std::string_view kind = kind_of(node);
  if (kind.ends_with('_') && !kind.ends_with("__")) kind.remove_suffix(1);  // In place, on its first input.
  if (kind.empty() || is_one_of(kind, follows_entries)) return std::nullopt;
  const bool by_factor = is_one_of(kind, multiplies);
  if ((by_factor || is_one_of(kind, counts_by_fractions)) && has_fraction(node)) return std::nullopt;
  Extent total;
  double most = 1;
  double product = 1;
  double sum = 0;
  // Tensors first: sizes that the numbers follow from are known then, however long the chain is.
  for (const Content wanted : {Content::tensors, Content::numbers}) {
    for (const Value* input : node.inputs()) {
      const Content content = content_of(*input->type());
      if (content == Content::unknown) return std::nullopt;
      if (content != wanted) continue;
      if (wanted == Content::tensors) {
        const auto one = extent(input);
        if (!one) return std::nullopt;
        join(total, *one);
      } else if (!is_one_of(kind, takes_parts)) {
        const auto number = magnitude(input);
        if (!number) return std::nullopt;
        most = std::max(most, *number);
        product *= std::max(1.0, *number);
        sum += *number;
      }
    }
  }
  if (is_one_of(kind, merges) && total.made_up) return std::nullopt;
  total.made_up = total.made_up || is_one_of(kind, makes_up);
  if (is_one_of(kind, joins) || is_one_of(kind, stacks)) {
    const auto count = length(node.input(0));
    if (!count) return std::nullopt;
    total.most = is_one_of(kind, joins) ? total.most * *count : std::max(total.most, *count);
    return total;
  }
  if (is_one_of(kind, doubles)) total.most *= 2;
  total.most = by_factor               ? total.most * product
               : is_one_of(kind, pads) ? total.most + 2 * sum
                                       : std::max(total.most, most);
  return total;
}

/// Of a list that the code made and changes: whatever it puts in, wherever that is.
std::optional<Extent> Bounds::of_changed_list(const Value* list) {
  if (list->node()->kind() != c10::prim::ListConstruct) return std::nullopt;
  auto total = of_operator(*list->node());
  if (!total || !add_entries(*graph_->block(), list, *total)) return std::nullopt;
  return total;
}

bool Bounds::add_entries(const Block& block, const Value* list, Extent& total) {
  for (const Node* node : block.nodes()) {
    for (const Block* within : node->blocks()) {
      if (!add_entries(*within, list, total)) return false;
    }
    if (!changes_list(*node) || !aliases_->mayAlias(node->input(0), list)) continue;
    const std::string_view kind = kind_of(*node);
    if (!is_one_of(kind, adds_one_or_none)) return false;
    const bool adds = kind == "append" || kind == "insert" || kind == "_set_item";
    const auto entry = adds ? extent(node->inputs().back()) : std::optional(Extent{});
    if (!entry) return false;
    join(total, *entry);
  }
  return true;
}

/// What a loop carries is as large as it was before, or as a turn makes it. An extent is assumed of what goes
/// into a turn, and stands if none larger comes out of it.
std::optional<Extent> Bounds::of_loop(const Node& loop, std::size_t carried) {
  const Block& body = *loop.blocks()[0];
  const Value* within = body.inputs()[carried + 1];
  const Value* after = body.outputs()[carried + 1];
  const auto before = extent(loop.input(carried + 2));
  if (!before) return std::nullopt;
  forget();  // Also that what leaves a turn is being looked for: the assumption ends the circle.
  Extent assumed{before->most, true};
  for (int i = 0; i < tries_max; ++i) {
    assumed_[within] = assumed;
    const auto left = extent(after);
    assumed_.erase(within);
    if (left && left->most <= assumed.most) return assumed;
    forget();  // It was found under what does not stand.
    if (!left) return std::nullopt;
    assumed.most = left->most;
  }
  return std::nullopt;
}

void Bounds::look_for_changes(const Block& block) {
  for (const Node* node : block.nodes()) {
    if (node->kind() == c10::prim::SetAttr) set_attributes_.insert(node->s(c10::attr::name));
    resizes_ = resizes_ || kind_of(*node) == "as_strided_";
    reshapes_ = reshapes_ || is_one_of(kind_of(*node), reorders);
    if (const c10::FunctionSchema* schema = node->maybeSchema()) {
      // An `out` gets the size of what is written to it.
      resizes_ = resizes_ || std::ranges::any_of(schema->arguments(), [](const c10::Argument& argument) {
                   return argument.is_out();
                 });
    }
    for (const Block* within : node->blocks()) look_for_changes(*within);
  }
}

void Bounds::forget() {
  magnitudes_.clear();
  lengths_.clear();
  extents_.clear();
}

}  // namespace rivulet::torchscript
