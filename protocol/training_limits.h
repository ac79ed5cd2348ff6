#pragma once

#include <cstdint>

namespace rivulet {

/// What one training task may ask of a node: coordinators are not configured to ask for more, and nodes
/// refuse it. A step holds the activations of a whole batch, so its size bounds the memory.
inline constexpr std::uint32_t training_epochs_max = 10'000;
inline constexpr std::uint32_t training_batch_size_max = 4'096;

}  // namespace rivulet
