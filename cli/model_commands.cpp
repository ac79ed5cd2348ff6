#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/text.h"

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

/// What a student or a pruned network was made of; of others nothing.
std::string teacher_text(const json& version) {
  const auto teacher = version.find("teacher");
  if (teacher == version.end() || teacher->is_null()) return "-";
  return fmt::format("version {} of {}", teacher->at("version").get<VersionNumber>(),
                     teacher->at("release").get<std::string>().substr(0, short_digits));
}

/// A row for each variant; times are of the machine that the version names.
std::string variants_table(const json& version) {
  const auto reference = version.value("reference", std::string());
  TextTable table({"VARIANT", "FILE", "PARAMETERS", "ACCURACY", "KERNELS", "ONE SAMPLE", "TENSORS"});
  for (const json& variant : version.at("variants")) {
    const auto time = variant.find("microseconds");
    const auto tensors = variant.find("activation_bytes");
    table.add({variant.at("name").get<std::string>(), size_text(variant.at("bytes").get<std::uint64_t>()),
               std::to_string(version.at("parameters").get<std::uint64_t>()),
               fraction_text(variant.value("accuracy", json())), kernels_text(variant),
               time == variant.end() ? "-" : fmt::format("{:.0f} us", time->get<double>()),
               tensors == variant.end() ? "-" : size_text(tensors->get<std::uint64_t>())});
  }
  return table.text() + (reference.empty() ? "" : "one sample as timed on: " + printable(reference) + "\n") +
         float_notes(version);
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
                   {"teacher", teacher_text(*version)},
                   {"created", version->at("created").get<std::string>()},
                   {"accuracy", fraction_text(metrics.at("accuracy"))},
                   {"loss", fraction_text(metrics.at("loss"))},
                   {"travels as", fmt::format("{}, {}", version->at("form").get<std::string>(),
                                              size_text(version->at("snapshot_bytes").get<std::uint64_t>()))},
                   {"sparsity", fraction_text(version->value("sparsity", json(0.0)))},
                   {"weights hash", version->at("weights_hash").get<std::string>()},
                   {"manifest", std::to_string(version->at("manifest_version").get<std::uint64_t>())},
                   {"fallback", number_text(*version, "fallback")},
                   {"epoch", std::to_string(version->at("epoch").get<std::uint64_t>())},
                   {"audit head", version->at("audit_head").get<std::string>()},
                   {"assigned", version->at("assigned").get<bool>() ? "yes" : "no"},
                   {"weights kept", version->at("kept").get<bool>() ? "yes" : "no"}}) +
      "\n" + variants_table(*version));
  return {};
}

}  // namespace rivulet::cli
