#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/codec/norm.h"
#include "protocol/result.h"

namespace rivulet {

enum class TensorKind : std::uint8_t {
  parameter,  ///< Trained; counts in norms and distances.
  statistic,  ///< Running statistics of batch norm: averaged, outside the norm bound.
};

/// Where batch norm's running statistics come from.
enum class BatchNorm : std::uint8_t {
  averaged,  ///< The nodes', averaged by the coordinator.
  local,     ///< Each node measures its own on its own samples; those in the layout stay as published.
};

struct TensorSpec {
  std::string name;
  std::vector<std::int64_t> shape;  ///< Empty for a scalar.
  TensorKind kind = TensorKind::parameter;

  bool operator==(const TensorSpec&) const = default;
  /// The number of entries, the product of the shape.
  [[nodiscard]] std::size_t size() const;
  /// Whether it is a parameter of at least two dimensions: no bias, no scale or shift of a norm, no
  /// statistic.
  [[nodiscard]] bool is_weight() const { return kind == TensorKind::parameter && shape.size() >= 2; }
};

/// How a model's tensors lie in one flat float32 vector: one after the other in this order, each
/// row-major. Every vector of weights or deltas in the system has this form.
struct ParameterLayout {
  std::vector<TensorSpec> tensors;

  bool operator==(const ParameterLayout&) const = default;
  /// The length of the flat vector: all entries of all tensors.
  [[nodiscard]] std::size_t size() const;
};

/// The coordinates of the layout's tensors of one kind, in rising order with neighbours joined: which entries
/// norms and distances count, and which are averaged outside of them.
std::vector<CoordinateRange> ranges_of(const ParameterLayout& layout, TensorKind kind);

/// The coordinates of batch norm's variances, which stay at 0 or above: statistics named "…running_var", as
/// torch.nn names them. In rising order.
std::vector<CoordinateRange> variance_ranges(const ParameterLayout& layout);

/// More than any model of ours has; bounds what a foreign layout can claim.
inline constexpr std::size_t tensors_max = 1 << 16;
inline constexpr std::size_t dimensions_max = 8;
inline constexpr std::uint64_t layout_entries_max = std::uint64_t{1} << 31;

/// Whether sizes may be computed from it: at least one tensor; each named once, with dimensions of at
/// least 1; no more than layout_entries_max entries. @return invalid.
Status check(const ParameterLayout& layout);

}  // namespace rivulet
