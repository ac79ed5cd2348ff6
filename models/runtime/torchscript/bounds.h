#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/script.h>

#include <memory>
#include <optional>
#include <unordered_map>

namespace rivulet::torchscript {

/// The sizes of tensors are what samples and weights make them, and count as this.
inline constexpr double size_nominal = 1024;

/// How large numbers can be in a graph whose calls are inlined, as far as it follows from constants, from
/// what the module holds, and from sizes. Nothing follows from what the code changes in place, lists or
/// numbers kept in tensors, but the length of a list that grows by single entries. Not thread-safe.
class Bounds {
 public:
  /// @param module, graph its forward; both outlive this and stay as they are.
  Bounds(const torch::jit::Module& module, std::shared_ptr<torch::jit::Graph> graph);

  /// The greatest magnitude of an integer, or of any entry of a list of them; nothing if it is not known.
  [[nodiscard]] std::optional<double> of(const torch::jit::Value* value);

 private:
  using Known = std::unordered_map<const torch::jit::Value*, std::optional<double>>;

  std::optional<double> magnitude(const torch::jit::Value* value);
  std::optional<double> find_magnitude(const torch::jit::Value* value);
  std::optional<double> length(const torch::jit::Value* value);
  std::optional<double> find_length(const torch::jit::Value* value);
  /// @param kind without "aten::" or "prim::".
  std::optional<double> of_arithmetic(std::string_view kind, const torch::jit::Node& node);
  std::optional<double> of_branches(const torch::jit::Value* value,
                                    std::optional<double> (Bounds::*find)(const torch::jit::Value*));
  std::optional<c10::IValue> constant(const torch::jit::Value* value, int depth = 0) const;
  bool is_changed(const torch::jit::Value* value);
  /// How many entries a run of the block can add to a list one by one; nothing if it adds whole lists too.
  std::optional<double> additions(const torch::jit::Block& block, const torch::jit::Value* list);

  const torch::jit::Module& module_;
  std::shared_ptr<torch::jit::Graph> graph_;
  std::unique_ptr<torch::jit::AliasDb> aliases_;  ///< Made when first asked for: few networks have loops.
  Known magnitudes_;
  Known lengths_;
  int depth_ = 0;
};

}  // namespace rivulet::torchscript
