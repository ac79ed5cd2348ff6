#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rivulet {

enum class TensorKind : std::uint8_t {
  parameter,  ///< Trained; counts in norms and distances.
  statistic,  ///< Running statistics of batch norm: averaged, outside the norm bound.
};

struct TensorSpec {
  std::string name;
  std::vector<std::int64_t> shape;  ///< Empty for a scalar.
  TensorKind kind = TensorKind::parameter;

  bool operator==(const TensorSpec&) const = default;
  /// The number of entries, the product of the shape.
  [[nodiscard]] std::size_t size() const;
};

/// How a model's tensors lie in one flat float32 vector: one after the other in this order, each
/// row-major. Every vector of weights or deltas in the system has this form.
struct ParameterLayout {
  std::vector<TensorSpec> tensors;

  bool operator==(const ParameterLayout&) const = default;
  /// The length of the flat vector: all entries of all tensors.
  [[nodiscard]] std::size_t size() const;
};

}  // namespace rivulet
