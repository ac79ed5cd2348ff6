#pragma once

#include <span>

#include "models/quantization/ranges.h"
#include "models/runtime/inference.h"
#include "protocol/result.h"

namespace rivulet {

/// Finds the activation ranges for static int8: the least and greatest value of each activation over the
/// samples, and what LibTorch refuses to quantize and therefore stays in float. With the same weights and
/// ranges, EngineKind::int8_static is the same module everywhere. About a thousand samples suffice.
/// @param weights [spec.layout.size()]. @param raw_samples [n * input_size], n at least 1.
/// @return invalid when the parts don't fit each other, corrupt when an activation is not finite,
/// unsupported when no part of the model can be quantized here.
Result<ActivationRanges> calibrate(const InferenceSpec& spec, std::span<const float> weights,
                                   std::span<const float> raw_samples);

}  // namespace rivulet
