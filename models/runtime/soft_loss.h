#pragma once

// Includes torch: only for the .cpp files of this folder.
#include <torch/script.h>

#include "models/package/architecture.h"
#include "models/runtime/distillation.h"

namespace rivulet {

/// The first term of the loss that SoftTargets describes, without its weight: a mean over the batch.
/// @param outputs [n, outputs] of the student. @param teacher [n, outputs], constant.
at::Tensor soft_loss(const at::Tensor& outputs, const at::Tensor& teacher, TaskKind task, double temperature);

}  // namespace rivulet
