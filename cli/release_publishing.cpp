#include "cli/release_publishing.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/text.h"
#include "models/package/snapshot.h"
#include "protocol/envelope.h"

namespace rivulet::cli {
namespace {

using nlohmann::json;

/// The coordinator scores the first version before it answers.
constexpr std::chrono::seconds import_patience{660};

Result<Envelope> get_release(AdminClient& client, const std::string& id) {
  const auto bytes = client.get("/v1/releases/" + id);
  if (!bytes) return std::unexpected(bytes.error());
  auto envelope = decode_envelope(bytes_of(*bytes));
  if (!envelope) return fail_at("release " + id, envelope.error());
  if (release_id(envelope->payload).hex() != id)
    return fail(Errc::corrupt, fmt::format("the coordinator sent another release than {}", id));
  return envelope;
}

Result<std::vector<float>> get_weights(AdminClient& client, const json& version,
                                       const ParameterLayout& layout) {
  const auto number = version.at("version").get<VersionNumber>();
  const auto bytes = client.get(fmt::format("/v1/versions/{}/weights", number));
  if (!bytes) return std::unexpected(bytes.error());
  std::vector<float> weights(layout.size());
  if (bytes->size() != weights.size() * sizeof(float)) {
    return fail(Errc::corrupt, fmt::format("version {} has {} bytes of weights; its layout has {} numbers",
                                           number, bytes->size(), weights.size()));
  }
  std::memcpy(weights.data(), bytes->data(), bytes->size());
  if (weights_hash_of(weights).hex() != version.at("weights_hash").get<std::string>()) {
    return fail(Errc::corrupt,
                fmt::format("the weights of version {} do not have the hash in its manifest", number));
  }
  return weights;
}

json data_json(const LabelledSamples& samples) {
  json data = {{"inputs", to_base64url(std::as_bytes(std::span(samples.inputs)))}};
  if (samples.targets.empty()) {
    data["labels"] = samples.labels;
  } else {
    data["targets"] = to_base64url(std::as_bytes(std::span(samples.targets)));
  }
  return data;
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

Result<ReleaseFleet> ask_fleet(AdminClient& client, const PublicKey& release_key) {
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
  if (head == 0) return ReleaseFleet{*id, 0};
  const auto version = client.get_json(fmt::format("/v1/versions/{}", head));
  if (!version) return std::unexpected(version.error());
  return ReleaseFleet{*id, version->value("epoch", std::uint64_t{0})};
}

Result<PublishedModel> get_model(AdminClient& client, VersionNumber version) {
  const auto shown = client.get_json(fmt::format("/v1/versions/{}", version));
  if (!shown) return std::unexpected(shown.error());
  auto envelope = get_release(client, shown->at("release").get<std::string>());
  if (!envelope) return std::unexpected(envelope.error());
  auto release = decode_release(envelope->payload);
  if (!release) return std::unexpected(release.error());
  auto weights = get_weights(client, *shown, release->layout);
  if (!weights) return std::unexpected(weights.error());
  return PublishedModel{std::move(*envelope), std::move(*release), version, std::move(*weights)};
}

Result<PublishedModel> get_teacher(AdminClient& client, VersionNumber version, const PublicKey& release_key) {
  auto model = get_model(client, version);
  if (!model) return model;
  if (verify_envelope(release_key, Context::release, model->envelope)) return model;
  return fail(Errc::refused,
              fmt::format("the release of version {} was not signed by this release key, so what it says "
                          "cannot be believed: give the key that signed it",
                          version));
}

Teacher link_to(const PublishedModel& teacher) {
  return {release_id(teacher.envelope.payload), teacher.version};
}

Result<json> publish_release(AdminClient& client, const PreparedModel& model, const SecretKey& key) {
  return client.post("/v1/releases", body_of(model, key), import_patience);
}

}  // namespace rivulet::cli
