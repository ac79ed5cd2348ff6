#include <spdlog/fmt/fmt.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/text.h"
#include "models/package/npz.h"
#include "models/package/release.h"
#include "models/package/snapshot.h"
#include "protocol/envelope.h"

namespace rivulet::cli {
namespace {

using nlohmann::json;

std::string variants_text(const json& variants) {
  std::string out;
  for (const json& variant : variants) {
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", variant.at("name").get<std::string>(),
                       size_text(variant.at("bytes").get<std::uint64_t>()));
  }
  return out.empty() ? "-" : out;
}

std::string number_text(const json& object, const char* key) {
  const auto value = object.at(key).get<std::uint64_t>();
  return value == 0 ? "-" : std::to_string(value);
}

Result<Release> get_release(AdminClient& client, const std::string& id) {
  const auto bytes = client.get("/v1/releases/" + id);
  if (!bytes) return std::unexpected(bytes.error());
  const auto envelope = decode_envelope(bytes_of(*bytes));
  if (!envelope) return fail_at("release " + id, envelope.error());
  if (release_id(envelope->payload).hex() != id)
    return fail(Errc::corrupt, fmt::format("the coordinator sent another release than {}", id));
  return decode_release(envelope->payload);
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

/// A shape under which NumPy applies the values to samples of the input's shape.
std::vector<std::int64_t> spread_shape(const std::vector<float>& values, const Architecture& architecture) {
  const auto& shape = architecture.input_shape;
  if (values.size() > 1 && values.size() == architecture.input_size()) return shape;
  std::vector<std::int64_t> channels(values.size() > 1 ? shape.size() : 1, 1);
  channels.front() = static_cast<std::int64_t>(values.size());
  return channels;
}

Status write_model(const std::filesystem::path& out, const Release& release, std::span<const float> weights) {
  std::vector<NpyArray> arrays;
  std::size_t at = 0;
  for (const TensorSpec& tensor : release.layout.tensors) {
    arrays.push_back({tensor.name, tensor.shape, weights.subspan(at, tensor.size())});
    at += tensor.size();
  }
  const Preprocessing& preprocessing = release.preprocessing;
  arrays.push_back(
      {"preprocessing.mean", spread_shape(preprocessing.mean, release.architecture), preprocessing.mean});
  arrays.push_back(
      {"preprocessing.scale", spread_shape(preprocessing.scale, release.architecture), preprocessing.scale});
  return write_npz(out, arrays);
}

}  // namespace

Status list_models(const ConnectionOptions& connection, bool as_json) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto versions = client->get_json("/v1/versions");
  if (!versions) return std::unexpected(versions.error());
  if (as_json) {
    print(json_line(*versions));
    return {};
  }
  TextTable table({"VERSION", "RELEASE", "PARENT", "ROUND", "CREATED (UTC)", "ACCURACY", "LOSS", "VARIANTS"});
  for (const json& version : *versions) {
    const json& metrics = version.at("metrics");
    table.add({std::to_string(version.at("version").get<VersionNumber>()),
               version.at("release").get<std::string>().substr(0, short_digits),
               number_text(version, "parent"), number_text(version, "round"),
               time_text(version.at("created").get<std::string>()), fraction_text(metrics.at("accuracy")),
               fraction_text(metrics.at("loss")), variants_text(version.at("variants"))});
  }
  print(table.text());
  return {};
}

Status show_model(const ConnectionOptions& connection, VersionNumber number, bool as_json) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto version = client->get_json(fmt::format("/v1/versions/{}", number));
  if (!version) return std::unexpected(version.error());
  if (as_json) {
    print(json_line(*version));
    return {};
  }
  const json& metrics = version->at("metrics");
  print(
      fields_text({{"version", std::to_string(number)},
                   {"release", version->at("release").get<std::string>()},
                   {"parent", number_text(*version, "parent")},
                   {"round", number_text(*version, "round")},
                   {"created", version->at("created").get<std::string>()},
                   {"accuracy", fraction_text(metrics.at("accuracy"))},
                   {"loss", fraction_text(metrics.at("loss"))},
                   {"travels as", fmt::format("{}, {}", version->at("form").get<std::string>(),
                                              size_text(version->at("snapshot_bytes").get<std::uint64_t>()))},
                   {"variants", variants_text(version->at("variants"))},
                   {"weights hash", version->at("weights_hash").get<std::string>()},
                   {"manifest", std::to_string(version->at("manifest_version").get<std::uint64_t>())},
                   {"fallback", number_text(*version, "fallback")},
                   {"epoch", std::to_string(version->at("epoch").get<std::uint64_t>())},
                   {"audit head", version->at("audit_head").get<std::string>()},
                   {"assigned", version->at("assigned").get<bool>() ? "yes" : "no"},
                   {"weights kept", version->at("kept").get<bool>() ? "yes" : "no"}}));
  return {};
}

Status export_model(const ConnectionOptions& connection, VersionNumber number, const std::string& format,
                    const std::filesystem::path& out) {
  if (format != "npz") {
    return fail(Errc::invalid, fmt::format("--format {} is not known: this build writes npz", format));
  }
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto version = client->get_json(fmt::format("/v1/versions/{}", number));
  if (!version) return std::unexpected(version.error());
  const auto release = get_release(*client, version->at("release").get<std::string>());
  if (!release) return std::unexpected(release.error());
  const auto weights = get_weights(*client, *version, release->layout);
  if (!weights) return std::unexpected(weights.error());
  return write_model(out, *release, *weights);
}

}  // namespace rivulet::cli
