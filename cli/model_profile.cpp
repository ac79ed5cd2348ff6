#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/files.h"
#include "cli/model_process.h"
#include "cli/prepared_model.h"
#include "cli/release_publishing.h"
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
  const auto program = sibling_program("rivulet-model");
  if (!program) return std::unexpected(program.error());
  const auto folder = ScratchFolder::make();
  if (!folder) return std::unexpected(folder.error());
  const PreparedModel model{.release = std::move(published->envelope.payload),
                            .weights = std::move(published->weights),
                            .holdout = {},
                            .test = {},
                            .notes = {}};
  if (Status status = write_prepared(folder->path(), model); !status) return status;
  std::vector<std::string> arguments = {"profile", "--number", std::to_string(number)};
  if (as_json) arguments.emplace_back("--json");
  for (const nlohmann::json& variant : shown->at("variants")) {
    const bool in_int8 = variant.value("kernels", std::string("float")) != "float";
    arguments.push_back((in_int8 ? "--in-int8=" : "--variant=") + variant.at("name").get<std::string>());
  }
  arguments.emplace_back("--");
  arguments.push_back(folder->path().string());
  // Every engine takes its time: a large network is at it for longer than an import is.
  if (Status status = run_limited(*program, arguments, {.cpu_seconds = 3600}); !status) return status;
  if (svg.empty()) return {};
  const auto chart = read_file(folder->path() / "profile.svg", prepared_bytes_max);
  if (!chart) return std::unexpected(chart.error());
  return write_file_durably(svg, *chart);
}

}  // namespace rivulet::cli
