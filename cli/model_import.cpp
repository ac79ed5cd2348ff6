#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/files.h"
#include "cli/model_process.h"
#include "cli/prepared_model.h"
#include "cli/release_publishing.h"
#include "cli/text.h"

namespace rivulet::cli {
namespace {

Result<PreparedModel> prepare(const ImportOptions& options, const ReleaseFleet& fleet) {
  const auto program = sibling_program("rivulet-model");
  if (!program) return std::unexpected(program.error());
  const auto folder = ScratchFolder::make();
  if (!folder) return std::unexpected(folder.error());
  const Status prepared =
      run_limited(*program, {"prepare", "--out", folder->path().string(), "--fleet", fleet.id.hex(), "--seed",
                             std::to_string(options.seed), "--epoch", std::to_string(fleet.epoch), "--",
                             options.spec.string()});
  if (!prepared) return std::unexpected(prepared.error());
  return read_prepared(folder->path());
}

}  // namespace

Status import_model(const ConnectionOptions& connection, const ImportOptions& options) {
  const auto spec = load_model_spec(options.spec);
  if (!spec) return std::unexpected(as_usage(spec.error()));
  const auto key = load_key(options.release_key, "release key");
  if (!key) return std::unexpected(key.error());
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  auto fleet = ask_fleet(*client, key->public_key());
  if (!fleet) return std::unexpected(fleet.error());
  fleet->epoch = options.epoch.value_or(fleet->epoch);
  const auto model = prepare(options, *fleet);
  if (!model) return std::unexpected(model.error());
  const auto release = check_prepared(*model, *spec, fleet->id, fleet->epoch);
  if (!release) return std::unexpected(release.error());
  // Before all nodes get it, and also if the coordinator refuses it.
  for (const std::string& note : model->notes) fmt::print(stderr, "rivulet: note: {}\n", note);
  const auto answer = publish_release(*client, *model, *key);
  if (!answer) return std::unexpected(answer.error());
  if (options.json) {
    print(json_line(*answer));
    return {};
  }
  print(fmt::format("release {} of {} is version {}: {} parameters in {} tensors\n",
                    answer->at("release").get<std::string>(), release->name,
                    answer->at("version").get<VersionNumber>(), release->layout.size(),
                    release->layout.tensors.size()));
  return {};
}

}  // namespace rivulet::cli
