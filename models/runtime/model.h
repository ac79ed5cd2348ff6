#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/layout.h"
#include "protocol/bytes.h"
#include "protocol/ids.h"
#include "protocol/result.h"

namespace rivulet {

/// A trainable network: a TorchScript module whose parameters lie in one flat vector, so that setting
/// weights is one copy. One thread at a time uses it; several models are independent of each other.
/// A moved-from model may only be destroyed or assigned to.
class Model {
 public:
  struct Impl;

  /// All weights are zero at first; those of a user's network are what its file holds.
  /// @param graph the TorchScript file of a "torchscript" architecture, else empty. Who takes it from
  /// elsewhere has verified its signature and hash; its code is checked again here.
  /// @return the errors of layout_of; those of torchscript/network.h for a graph; internal if LibTorch fails.
  static Result<Model> build(const Architecture& architecture, ByteSpan graph = {});

  explicit Model(std::unique_ptr<Impl> impl);
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  [[nodiscard]] const Architecture& architecture() const;
  [[nodiscard]] const ParameterLayout& layout() const;
  /// SHA-256 of the graph that it was built of; zero for a built-in network.
  [[nodiscard]] const Digest& graph_hash() const;
  /// The length of the flat vector of weights.
  [[nodiscard]] std::size_t size() const;

  /// @return invalid on a wrong length, which leaves the weights as they were.
  Status set_weights(std::span<const float> weights);
  [[nodiscard]] std::vector<float> weights() const;
  /// @param out [size()]
  void copy_weights(std::span<float> out) const;
  /// See initial_weights in architectures.h; the model itself does not change.
  [[nodiscard]] std::vector<float> initial_weights(std::uint64_t seed) const;

  /// The network's answers without gradients: logits for a classification.
  /// @param inputs [batch * input_size], preprocessed, row-major.
  /// @return [batch * outputs]; invalid on a wrong length.
  Result<std::vector<float>> forward(std::span<const float> inputs, std::size_t batch);

  /// The same network with the same weights, sharing nothing.
  Result<Model> clone() const;

  /// A TorchScript file in memory that `torch.jit.load` reads: from [n, …] preprocessed inputs to logits.
  /// @param notes by their names, which the file carries along (`_extra_files` of torch.jit.load).
  Result<Bytes> to_torchscript(const std::map<std::string, std::string>& notes = {}) const;

  /// For the files of models/runtime that include torch.
  [[nodiscard]] Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace rivulet
