#pragma once

#include <vector>

#include "models/quantization/engine.h"

namespace rivulet {

/// The int8 backends of this LibTorch, its own choice for this CPU first. Never `none`.
std::vector<Int8Backend> int8_backends();

/// What this CPU takes without loss; see ActivationBits.
ActivationBits activation_bits_of_cpu();

/// The engines worth a trial here: both fp32 ones, then the int8 ones of every backend.
std::vector<Engine> candidate_engines();

}  // namespace rivulet
