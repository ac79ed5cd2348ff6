#include "cli/pruned_model.h"

#include <nlohmann/json.hpp>

namespace rivulet::cli {

Result<PrunedModel> prune_teacher(const PublishedModel& teacher, const ReleaseFleet& fleet,
                                  const ChannelPruning& pruning, UtcTime created) {
  auto network =
      prune_channels(teacher.release.architecture, teacher.release.layout, teacher.weights, pruning);
  if (!network) return std::unexpected(network.error());
  Release release = teacher.release;
  release.fleet = fleet.id;
  release.architecture = std::move(network->architecture);
  release.layout = std::move(network->layout);
  release.created = created;
  release.limits.expires += release.created - teacher.release.created;
  release.epoch = fleet.epoch;
  release.teacher = link_to(teacher);
  const double ratio = default_distance(release.layout, network->weights) /
                       default_distance(teacher.release.layout, teacher.weights);
  begin_with(release, network->weights, ratio * teacher.release.limits.max_distance);
  if (const Status sound = check(release); !sound) return std::unexpected(sound.error());
  PrunedModel pruned;
  pruned.max_distance = release.limits.max_distance;
  pruned.model.release = encode(release);
  pruned.model.weights = std::move(network->weights);
  return pruned;
}

}  // namespace rivulet::cli
