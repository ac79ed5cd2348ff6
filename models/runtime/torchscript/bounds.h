#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/script.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace rivulet::torchscript {

/// The sizes of tensors that samples and layers make count as this.
inline constexpr double size_nominal = 1024;

/// How far the dimensions of a tensor can go, or those of all tensors of a list.
struct Extent {
  double most = size_nominal;
  /// By numbers of the code's own: no memory need stand behind it, so a product of dimensions may be
  /// anything.
  bool made_up = false;
};

/// How large numbers can be in a graph whose calls are inlined, as far as it follows from constants, from
/// what the module holds, and from sizes. Sizes that the code gives to tensors (zeros, expand, reshape) count
/// as they are. Nothing follows from what the code changes in place, lists or numbers kept in tensors, but
/// the length of a list that grows by single entries. Not thread-safe.
class Bounds {
 public:
  /// @param module, graph its forward; both outlive this and stay as they are.
  Bounds(const torch::jit::Module& module, std::shared_ptr<torch::jit::Graph> graph);

  /// The greatest magnitude of an integer, or of any entry of a list of them; nothing if it is not known.
  [[nodiscard]] std::optional<double> of(const torch::jit::Value* value);

  /// The tensor that an attribute is, if it has these sizes whenever the code gets here.
  [[nodiscard]] std::optional<at::Tensor> held(const torch::jit::Value* value);

 private:
  using Known = std::unordered_map<const torch::jit::Value*, std::optional<double>>;
  using KnownExtents = std::unordered_map<const torch::jit::Value*, std::optional<Extent>>;

  std::optional<double> magnitude(const torch::jit::Value* value);
  std::optional<double> find_magnitude(const torch::jit::Value* value);
  std::optional<double> length(const torch::jit::Value* value);
  std::optional<double> find_length(const torch::jit::Value* value);
  /// @param kind without "aten::" or "prim::".
  std::optional<double> of_arithmetic(std::string_view kind, const torch::jit::Node& node);
  std::optional<Extent> extent(const torch::jit::Value* value);
  std::optional<Extent> find_extent(const torch::jit::Value* value);
  std::optional<Extent> of_operator(const torch::jit::Node& node);
  std::optional<Extent> of_changed_list(const torch::jit::Value* list);
  bool add_entries(const torch::jit::Block& block, const torch::jit::Value* list, Extent& total);
  std::optional<Extent> of_loop(const torch::jit::Node& loop, std::size_t carried);
  std::optional<Extent> of_attribute(const torch::jit::Value* value);
  std::optional<double> size(const torch::jit::Value* tensor);
  std::optional<double> parts(const torch::jit::Node& node);
  void look_for_changes(const torch::jit::Block& block);
  void forget();
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
  KnownExtents extents_;
  KnownExtents assumed_;  ///< Of what a loop carries from turn to turn, until it is shown.
  std::unordered_set<std::string> set_attributes_;
  bool resizes_ = false;   ///< The code gives tensors other sizes in place,
  bool reshapes_ = false;  ///< or other dimensions with the same ones.
  int depth_ = 0;
  int extent_depth_ = 0;
  int extents_looked_at_ = 0;
};

}  // namespace rivulet::torchscript
