#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rivulet {

enum class TaskKind : std::uint8_t { classification, regression, anomaly };

/// What is needed to build a network; the runtime turns it into a TorchScript module.
struct Architecture {
  /// "mlp": dense layers of the `hidden` sizes with ReLU between them; none is softmax regression.
  /// "mcmahan_cnn": two 5x5 convolutions (32, 64 channels), each with 2x2 max-pooling, then a dense
  /// layer of 512; input [1, 28, 28] or [784] (McMahan et al. 2017, arXiv:1602.05629, section 3).
  std::string kind;
  std::vector<std::int64_t> hidden;
  std::vector<std::int64_t> input_shape;  ///< Without the batch dimension.
  std::int64_t outputs = 0;               ///< Classes, or values for a regression.

  bool operator==(const Architecture&) const = default;
  /// The product of `input_shape`: how many numbers one sample has.
  [[nodiscard]] std::size_t input_size() const;
};

}  // namespace rivulet
