#include <spdlog/fmt/fmt.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/files.h"
#include "cli/release_publishing.h"
#include "cli/text.h"
#include "models/surgery/channel_pruning.h"

namespace rivulet::cli {
namespace {

/// The teacher's release with a smaller network: what is not about its size stays as it was signed.
Result<PreparedModel> prune(const PublishedModel& teacher, const ReleaseFleet& fleet,
                            const ChannelPruning& pruning) {
  auto network =
      prune_channels(teacher.release.architecture, teacher.release.layout, teacher.weights, pruning);
  if (!network) return std::unexpected(network.error());
  Release release = teacher.release;
  release.fleet = fleet.id;
  release.architecture = std::move(network->architecture);
  release.layout = std::move(network->layout);
  release.created = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  release.limits.expires += release.created - teacher.release.created;
  release.epoch = fleet.epoch;
  release.teacher = link_to(teacher);
  begin_with(release, network->weights, /*max_distance=*/0);
  if (const Status sound = check(release); !sound) return std::unexpected(sound.error());
  PreparedModel model;
  model.release = encode(release);
  model.weights = std::move(network->weights);
  return model;
}

}  // namespace

Status prune_model(const ConnectionOptions& connection, const PruneCommand& command) {
  if (!(command.fraction > 0 && command.fraction < 1))
    return fail(Errc::invalid,
                fmt::format("--fraction is {}; it must be above 0 and below 1", command.fraction));
  const auto key = load_key(command.release_key, "release key");
  if (!key) return std::unexpected(key.error());
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto fleet = ask_fleet(*client, key->public_key());
  if (!fleet) return std::unexpected(fleet.error());
  const auto teacher = get_teacher(*client, command.version, key->public_key());
  if (!teacher) return std::unexpected(teacher.error());
  const auto model = prune(*teacher, *fleet, {command.fraction, command.code});
  if (!model)
    return fail(Errc::refused, fmt::format("version {}: {}", command.version, model.error().detail));
  auto answer = publish_release(*client, *model, *key);
  if (!answer) return std::unexpected(answer.error());
  const Teacher link = link_to(*teacher);
  if (command.json) {
    (*answer)["teacher"] = {{"release", link.release.hex()}, {"version", link.version}};
    (*answer)["pruning"] = {{"teacher_parameters", teacher->weights.size()},
                            {"parameters", model->weights.size()}};
    print(json_line(*answer));
    return {};
  }
  print(fmt::format("release {} of {} is version {}: {} of the {} parameters of version {}\n",
                    answer->at("release").get<std::string>(), teacher->release.name,
                    answer->at("version").get<VersionNumber>(), model->weights.size(),
                    teacher->weights.size(), link.version));
  return {};
}

}  // namespace rivulet::cli
