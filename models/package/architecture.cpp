#include "models/package/architecture.h"

namespace rivulet {

std::size_t Architecture::input_size() const {
  std::size_t size = 1;
  for (const std::int64_t dimension : input_shape) size *= static_cast<std::size_t>(dimension);
  return size;
}

}  // namespace rivulet
