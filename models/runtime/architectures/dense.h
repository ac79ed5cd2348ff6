#pragma once

#include <cstdint>
#include <span>

#include "models/runtime/architectures/network.h"

namespace rivulet {

/// Appends fc1 -> ReLU -> … -> fcN -> [outputs] to a network whose `x` is [n, inputs].
void append_dense(NetworkBuilder& network, std::int64_t inputs, std::span<const std::int64_t> hidden,
                  std::int64_t outputs);

}  // namespace rivulet
