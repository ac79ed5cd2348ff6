#include "node/daemon/api_client.h"

#include <httplib.h>
#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "node/daemon/answer_json.h"
#include "node/daemon/folder.h"
#include "protocol/endpoint.h"

namespace rivulet::node {

using Json = nlohmann::json;

struct ApiClient::Impl {
  Impl(const std::string& where, std::string bearer, const Endpoint& endpoint)
      : address(where), token(std::move(bearer)), client(endpoint.host, endpoint.port) {
    client.set_keep_alive(true);
    client.set_tcp_nodelay(true);
    client.set_connection_timeout(5);
    client.set_read_timeout(60);
    client.set_write_timeout(60);
  }

  std::string address;
  std::string token;
  httplib::Client client;

  /// @param keep_400 the body tells more than the status.
  Result<Json> judge(const httplib::Result& result, bool keep_400 = false) const {
    if (!result) {
      return fail(Errc::disconnected, fmt::format("the daemon at {} does not answer: {}", address,
                                                  httplib::to_string(result.error())));
    }
    Json json = Json::parse(result->body, nullptr, false);
    if (json.is_discarded() || !json.is_object()) {
      return fail(Errc::corrupt,
                  fmt::format("the daemon at {} answered {} without JSON", address, result->status));
    }
    if (result->status == 200 || (keep_400 && result->status == 400 && json.contains("results"))) return json;
    return fail(Errc::refused,
                fmt::format("the daemon at {} refused: {}", address, json.value("detail", "no detail")));
  }
};

ApiClient::ApiClient(const std::string& address, std::string token)
    : impl_(std::make_unique<Impl>(address, std::move(token), parse_endpoint(address).value_or(Endpoint{}))) {
}
ApiClient::~ApiClient() = default;
ApiClient::ApiClient(ApiClient&&) noexcept = default;
ApiClient& ApiClient::operator=(ApiClient&&) noexcept = default;

Result<std::optional<ApiClient>> ApiClient::find(const std::filesystem::path& folder) {
  const FolderPaths paths(folder);
  const auto joined = has_joined(paths);
  if (!joined) return std::unexpected(joined.error());
  if (!*joined) return std::optional<ApiClient>();  // Who opens the folder is told so.
  const auto patience_end = std::chrono::steady_clock::now() + folder_patience;
  while (true) {
    const auto holder = folder_holder(folder);
    if (!holder) return std::unexpected(holder.error());
    if (!*holder) return std::optional<ApiClient>();
    const auto address = api_of_holder(paths, **holder);
    if (!address) return std::unexpected(address.error());
    if (*address) {
      auto token = read_token(paths);
      if (!token) return std::unexpected(token.error());
      return std::optional<ApiClient>(ApiClient(**address, std::move(*token)));
    }
    // A daemon that starts, or a command that is done soon.
    if (std::chrono::steady_clock::now() > patience_end) {
      return fail(Errc::conflict,
                  folder.string() + " is in use by another process that has no API: stop it first");
    }
    std::this_thread::sleep_for(folder_poll);
  }
}

Result<AddOutcome> ApiClient::add_samples(std::span<const NewSample> samples) {
  Json list = Json::array();
  for (const NewSample& sample : samples) {
    Json json = {{"inputs", sample.inputs}};
    if (sample.label) json["label"] = *sample.label;
    if (!sample.id.empty()) json["id"] = sample.id;
    list.push_back(std::move(json));
  }
  const httplib::Headers headers = {{"Authorization", "Bearer " + impl_->token}};
  const auto answer = impl_->judge(impl_->client.Post(
      "/v1/samples?sync=true", headers, one_line({{"samples", std::move(list)}}), "application/json"));
  if (!answer) return std::unexpected(answer.error());
  AddOutcome outcome;
  outcome.stored = answer->value("stored", std::uint64_t{0});
  outcome.duplicate = answer->value("duplicate", std::uint64_t{0});
  outcome.dropped = answer->value("dropped", std::uint64_t{0});
  for (const Json& refused : answer->value("refused", Json::array())) {
    outcome.refused.push_back({refused.value("index", std::size_t{0}), refused.value("reason", "")});
  }
  return outcome;
}

Result<std::vector<std::string>> ApiClient::infer(std::span<const std::vector<float>> samples,
                                                  std::uint64_t first_index) {
  Json inputs = Json::array();
  for (const auto& sample : samples) inputs.push_back(sample);
  auto answer = impl_->judge(
      impl_->client.Post("/v1/infer", one_line({{"inputs", std::move(inputs)}}), "application/json"), true);
  if (!answer) return std::unexpected(answer.error());
  std::vector<std::string> lines;
  for (Json& result : (*answer)["results"]) {
    result["index"] = first_index + lines.size();
    lines.push_back(one_line(result));
  }
  return lines;
}

Result<std::string> ApiClient::status() {
  const auto answer = impl_->judge(impl_->client.Get("/v1/status"));
  if (!answer) return std::unexpected(answer.error());
  return one_line(*answer);
}

}  // namespace rivulet::node
