#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <span>

namespace rivulet {

/// [rows, values.size() / rows] in memory of its own: a user's network may write to its input, or keep it.
inline at::Tensor input_tensor(std::span<const float> values, std::size_t rows) {
  at::Tensor tensor = at::empty(
      {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(values.size() / rows)}, at::kFloat);
  std::ranges::copy(values, tensor.data_ptr<float>());
  return tensor;
}

}  // namespace rivulet
