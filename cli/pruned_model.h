#pragma once

#include "cli/release_publishing.h"
#include "models/surgery/channel_pruning.h"
#include "protocol/now.h"

namespace rivulet::cli {

struct PrunedModel {
  PreparedModel model;
  double max_distance = 0;  ///< Of its release.
};

/// The teacher's release with a smaller network: what is not about its size stays as it was signed. Versions
/// may go as far from their first weights as the teacher's in ratio to the norm of these (default_distance of
/// the pruned weights to that of the teacher's): the same number would let each of the fewer weights go
/// further than the operator allowed, and the default would drop what he said.
/// @param created when it is made. @return what prune_channels and check(Release) return.
Result<PrunedModel> prune_teacher(const PublishedModel& teacher, const ReleaseFleet& fleet,
                                  const ChannelPruning& pruning, UtcTime created);

}  // namespace rivulet::cli
