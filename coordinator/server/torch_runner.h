#pragma once

#include <memory>

#include "coordinator/work/model_runner.h"

namespace rivulet::coordinator {

/// Models run by LibTorch, as nodes run them. Keeps the network of the release that was scored last.
std::unique_ptr<ModelRunner> make_torch_runner();

}  // namespace rivulet::coordinator
