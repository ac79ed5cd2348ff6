#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace rivulet::torchscript {

inline bool is_tensor(const torch::jit::Value* value) {
  return value->type()->isSubtypeOf(*c10::TensorType::get());
}

/// "conv2d" of aten::conv2d, "If" of prim::If.
inline std::string_view kind_of(const torch::jit::Node& node) {
  const std::string_view kind = node.kind().toQualString();
  for (const std::string_view space : {"aten::", "prim::"}) {
    if (kind.starts_with(space)) return kind.substr(space.size());
  }
  return {};
}

template <std::size_t n>
bool is_one_of(std::string_view kind, const std::array<std::string_view, n>& names) {
  return std::ranges::find(names, kind) != names.end();
}

/// What changes a list without adding more than one entry.
inline constexpr std::array<std::string_view, 8> adds_one_or_none = {"append", "insert", "_set_item", "pop",
                                                                     "remove", "clear",  "reverse",   "sort"};

inline bool writes_to_first(const torch::jit::Node& node) {
  const c10::FunctionSchema* schema = node.maybeSchema();
  if (schema == nullptr || schema->arguments().empty()) return false;
  const c10::AliasInfo* alias = schema->arguments()[0].alias_info();
  return alias != nullptr && alias->isWrite();
}

inline bool changes_list(const torch::jit::Node& node) {
  return writes_to_first(node) && node.input(0)->type()->kind() == c10::TypeKind::ListType;
}

inline bool changes_container(const torch::jit::Node& node) {
  return writes_to_first(node) && !is_tensor(node.input(0));
}

/// Counts how deep a search is.
class Deeper {
 public:
  explicit Deeper(int& depth) : depth_(++depth) {}
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;
  ~Deeper() { --depth_; }

 private:
  int& depth_;
};

}  // namespace rivulet::torchscript
