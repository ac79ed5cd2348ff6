#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/files.h"
#include "cli/model_process.h"
#include "cli/prepared_model.h"
#include "cli/text.h"
#include "protocol/envelope.h"

namespace rivulet::cli {
namespace {

using nlohmann::json;

/// The coordinator scores the first version before it answers.
constexpr std::chrono::seconds import_patience{660};

struct Fleet {
  FleetId id;
  std::uint64_t epoch = 0;  ///< Of the release in force.
};

/// For whom a release is made, and whether this key may sign it: better known before the work than after.
Result<Fleet> ask_fleet(AdminClient& client, const PublicKey& release_key) {
  const auto trust = client.get_json("/v1/trust");
  if (!trust) return std::unexpected(trust.error());
  const json& document = trust->at("document");
  const auto id = FleetId::from_hex(document.at("fleet").get<std::string>());
  if (!id) return fail(Errc::corrupt, "the coordinator names no fleet: is it a coordinator of this version?");
  const json& keys = document.at("release_keys");
  if (std::ranges::find(keys, json(release_key.hex())) == keys.end()) {
    return fail(
        Errc::refused,
        fmt::format("the key {} is no release key of the fleet {}: give the one that its trust "
                    "document names",
                    release_key.hex().substr(0, short_digits), document.at("name").get<std::string>()));
  }
  const auto status = client.get_json("/v1/status");
  if (!status) return std::unexpected(status.error());
  const auto head = status->at("head").get<VersionNumber>();
  if (head == 0) return Fleet{*id, 0};
  const auto version = client.get_json(fmt::format("/v1/versions/{}", head));
  if (!version) return std::unexpected(version.error());
  return Fleet{*id, version->value("epoch", std::uint64_t{0})};
}

Result<PreparedModel> prepare(const ImportOptions& options, const Fleet& fleet) {
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

json data_json(const LabelledSamples& samples) {
  return {{"inputs", to_base64url(std::as_bytes(std::span(samples.inputs)))}, {"labels", samples.labels}};
}

json body_of(const PreparedModel& model, const SecretKey& key) {
  const Envelope envelope = seal(key, Context::release, model.release);
  json body = {{"release", to_base64url(encode(envelope))},
               {"weights", to_base64url(std::as_bytes(std::span(model.weights)))}};
  if (model.holdout) body["holdout"] = data_json(*model.holdout);
  if (model.test) body["test"] = data_json(*model.test);
  return body;
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
  const auto answer = client->post("/v1/releases", body_of(*model, *key), import_patience);
  if (!answer) return std::unexpected(answer.error());
  for (const std::string& note : model->notes) fmt::print(stderr, "rivulet: note: {}\n", note);
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
