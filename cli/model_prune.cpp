#include <spdlog/fmt/fmt.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/files.h"
#include "cli/pruned_model.h"
#include "cli/release_publishing.h"
#include "cli/text.h"

namespace rivulet::cli {

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
  const UtcTime now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto model = prune_teacher(*teacher, *fleet, {command.fraction, command.code}, now);
  if (!model)
    return fail(Errc::refused, fmt::format("version {}: {}", command.version, model.error().detail));
  auto answer = publish_release(*client, model->model, *key);
  if (!answer) return std::unexpected(answer.error());
  const Teacher link = link_to(*teacher);
  if (command.json) {
    (*answer)["teacher"] = {{"release", link.release.hex()}, {"version", link.version}};
    (*answer)["pruning"] = {{"teacher_parameters", teacher->weights.size()},
                            {"parameters", model->model.weights.size()},
                            {"teacher_max_distance", teacher->release.limits.max_distance},
                            {"max_distance", model->max_distance}};
    print(json_line(*answer));
    return {};
  }
  print(fmt::format(
      "release {} of {} is version {}: {} of the {} parameters of version {}, and max_distance "
      "{:.4g} in place of {:.4g}\n",
      answer->at("release").get<std::string>(), teacher->release.name,
      answer->at("version").get<VersionNumber>(), model->model.weights.size(), teacher->weights.size(),
      link.version, model->max_distance, teacher->release.limits.max_distance));
  return {};
}

}  // namespace rivulet::cli
