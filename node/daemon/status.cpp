#include "node/daemon/status.h"

#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "node/daemon/agent_driver.h"
#include "node/daemon/api_client.h"
#include "node/daemon/folder.h"

namespace rivulet::node {
namespace {

using Json = nlohmann::json;

std::string text_of_value(const Json& json, const char* key) {
  if (!json.is_object() || !json.contains(key) || json[key].is_null()) return "-";
  return json[key].is_string() ? json[key].get<std::string>() : json[key].dump();
}

std::string version_text(const Json& held) {
  if (!held.is_object()) return "none";
  return fmt::format("version {} ({})", text_of_value(held, "version"), text_of_value(held, "variant"));
}

/// "version 5 (int8, int8-static-onednn)"; the engine is known while a model is loaded.
std::string served_text(const Json& held, const Json& serving) {
  const bool same = held.is_object() && serving.is_object() &&
                    text_of_value(held, "version") == text_of_value(serving, "version");
  if (!same) return version_text(held);
  return fmt::format("version {} ({}, {})", text_of_value(held, "version"), text_of_value(serving, "variant"),
                     text_of_value(serving, "engine"));
}

/// "online", or "offline: why the last connection is over".
std::string link_text(const Json& link) {
  const std::string state = text_of_value(link, "state");
  return link.is_object() && link.contains("why") ? fmt::format("{}: {}", state, text_of_value(link, "why"))
                                                  : state;
}

}  // namespace

Result<std::string> node_status(const std::filesystem::path& path) {
  auto client = ApiClient::find(path);
  if (!client) return std::unexpected(client.error());
  if (*client) return (*client)->status();
  const auto folder = open_node_folder(path, OnFullDisk::use_ballast);
  if (!folder) return std::unexpected(folder.error());
  const auto state = recover_agent(**folder);
  if (!state) return std::unexpected(state.error());
  return status_document(*state, (*folder)->samples->counts(), nullptr, false);
}

std::string status_text(const std::string& document) {
  const Json json = Json::parse(document, nullptr, false);
  const auto list_size = [&](const char* key) {
    return json.contains(key) && json[key].is_array() ? json[key].size() : std::size_t{0};
  };
  const bool running = json.value("running", false);
  std::string text = fmt::format("node      {}\n", text_of_value(json, "node"));
  text += fmt::format("daemon    {}\n", running ? "running" : "not running");
  if (running) text += fmt::format("link      {}\n", link_text(json.value("link", Json::object())));
  text += fmt::format("fleet     {}\n", text_of_value(json.value("trust", Json::object()), "fleet_name"));
  const bool failed = text_of_value(json, "service") == "failed";
  const Json held = json.value("serves", Json());
  const std::string version = served_text(held, json.value("serving", Json()));
  text += failed ? fmt::format("serves    nothing: {} failed\n", version)
                 : fmt::format("serves    {}\n", version);
  if (held.is_object()) text += fmt::format("audit     head {}\n", text_of_value(held, "audit_head"));
  text += fmt::format("samples   {} to train on, {} in the holdout, {} without a label ({} bytes)\n",
                      text_of_value(json, "samples"), text_of_value(json, "holdout_samples"),
                      text_of_value(json, "unlabelled_samples"), text_of_value(json, "buffer_bytes"));
  text += fmt::format("tasks     {} open, {} in the outbox\n", list_size("tasks"), list_size("outbox"));
  if (running) {
    text += fmt::format("answers   {}, {} failed\n", text_of_value(json, "inferences"),
                        text_of_value(json, "inference_errors"));
  }
  return text;
}

}  // namespace rivulet::node
