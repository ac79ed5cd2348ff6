#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/layout.h"
#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet {

/// A trainable network: a TorchScript module whose parameters lie in one flat vector, so that setting
/// weights is one copy. One thread at a time uses it; several models are independent of each other.
/// A moved-from model may only be destroyed or assigned to.
class Model {
 public:
  struct Impl;

  /// All weights are zero at first. @return the errors of layout_of, internal if LibTorch fails.
  static Result<Model> build(const Architecture& architecture);

  explicit Model(std::unique_ptr<Impl> impl);
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  [[nodiscard]] const Architecture& architecture() const;
  [[nodiscard]] const ParameterLayout& layout() const;
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
  Result<Bytes> to_torchscript() const;

  /// For the files of models/runtime that include torch.
  [[nodiscard]] Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace rivulet
