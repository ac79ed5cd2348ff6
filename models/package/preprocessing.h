#pragma once

#include <vector>

namespace rivulet {

/// How a raw sample becomes a network's input: (x - mean) / scale. Each of the two has one value for
/// all numbers, one per channel (the first dimension of a shape with several) or one per number.
struct Preprocessing {
  std::vector<float> mean{0.0F};
  std::vector<float> scale{1.0F};  ///< Divides; never zero.

  bool operator==(const Preprocessing&) const = default;
};

}  // namespace rivulet
