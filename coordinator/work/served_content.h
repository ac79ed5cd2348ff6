#pragma once

#include "coordinator/core/coordinator.h"

namespace rivulet::coordinator {

/// Whether nodes may have this content: signed releases, w_0, snapshots and variants of versions, and the
/// candidate that is being judged. Masters, optimizer states and updates never leave the coordinator.
bool may_serve(const State& state, const ContentId& content);

}  // namespace rivulet::coordinator
