#pragma once

#include <cstddef>

#include "models/package/release.h"

namespace rivulet {

/// No version manifest is larger: it travels in one frame, beside another one in a task to evaluate.
inline constexpr std::size_t manifest_bytes_max = 96 * 1024;

/// To how many known inputs a version manifest can hold the answers: those of each variant in float, and of
/// int8 also those of its kernels. 0: not even to one.
std::size_t known_inputs_max(const Release& release);

}  // namespace rivulet
