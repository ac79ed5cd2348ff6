#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "models/runtime/profile/report.h"

namespace rivulet {

/// What one thread's calls into LibTorch did.
struct Metered {
  std::vector<OperatorTime> operators;  ///< The outermost ones, in the order in which they began.
  std::uint64_t tensor_bytes_max = 0;   ///< The most that was allocated at once beyond what there was before.
};

/// Runs `work` in this thread while LibTorch reports operators and memory. That takes time of its own, which
/// the operators' times contain. LibTorch's own allocator alone is seen: what its libraries take for
/// themselves is not.
Metered meter(const std::function<void()>& work);

}  // namespace rivulet
