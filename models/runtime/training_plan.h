#pragma once

#include "models/package/release.h"
#include "models/runtime/training.h"
#include "protocol/message.h"

namespace rivulet {

/// How a coordinator's plan trains a release's network.
/// @return unsupported, with Reason::training_failed, for an optimizer that this node does not know.
Result<TrainingParameters> training_parameters(const message::TrainingPlan& plan, const Release& release);

}  // namespace rivulet
