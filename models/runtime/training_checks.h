#pragma once

#include <cstddef>

#include "models/runtime/training.h"

namespace rivulet {

/// Whether a training can start: what train() refuses, it refuses here.
/// @return the number of samples, at least 1; invalid with the reason.
Result<std::size_t> check_training(const Model& model, std::span<const float> base_weights,
                                   const TrainingData& data, const TrainingParameters& parameters);

}  // namespace rivulet
