#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/model_child.h"
#include "storage/file.h"

namespace rivulet::cli {

/// LibTorch measures, in the process that has it, and prints what it found.
Status profile_model(const ConnectionOptions& connection, VersionNumber number, bool as_json,
                     const std::filesystem::path& svg) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  auto published = get_model(*client, number);
  if (!published) return std::unexpected(published.error());
  const auto shown = client->get_json(fmt::format("/v1/versions/{}", number));
  if (!shown) return std::unexpected(shown.error());
  std::vector<std::string> arguments = {"profile", "--number", std::to_string(number)};
  if (as_json) arguments.emplace_back("--json");
  for (const nlohmann::json& variant : shown->at("variants")) {
    const bool in_int8 = variant.value("kernels", std::string("float")) != "float";
    arguments.push_back((in_int8 ? "--in-int8=" : "--variant=") + variant.at("name").get<std::string>());
  }
  // Every engine takes its time: a large network is at it for longer than an import is.
  const auto chart =
      run_on_version(std::move(*published), std::move(arguments), "profile.svg", {.cpu_seconds = 3600});
  if (!chart) return std::unexpected(chart.error());
  return svg.empty() ? Status() : write_file_durably(svg, *chart);
}

}  // namespace rivulet::cli
