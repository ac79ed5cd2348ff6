#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/text.h"
#include "protocol/now.h"

namespace rivulet::cli {
namespace {

using nlohmann::json;

constexpr std::size_t key_digits_min = 8;
constexpr std::size_t key_digits_max = 2 * PublicKey::size;
constexpr auto token_lifetime_max = std::chrono::days(366);

/// @param what "key" or "id". @param list shows them.
Status check_digits(const std::string& prefix, const char* what, const char* list) {
  const bool hexadecimal = prefix.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
  if (hexadecimal && prefix.size() >= key_digits_min && prefix.size() <= key_digits_max) return {};
  return fail(Errc::invalid, fmt::format("'{}' is no {}: give {} to {} hexadecimal digits of it, see '{}'",
                                         prefix, what, key_digits_min, key_digits_max, list));
}

/// The path of an action on a node.
Result<std::string> node_path(const std::string& key, const std::string& action) {
  if (Status status = check_digits(key, "key", "rivulet nodes"); !status)
    return std::unexpected(status.error());
  return fmt::format("/v1/nodes/{}/{}", key, action);
}

std::string tags_text(const json& tags) {
  std::string out;
  for (const json& tag : tags) out += (out.empty() ? "" : ",") + tag.get<std::string>();
  return out.empty() ? "-" : out;
}

Status post_node(const ConnectionOptions& connection, const std::string& path, const json& body) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto node = client->post(path, body);
  if (!node) return std::unexpected(node.error());
  print(fmt::format("{}  {}  {}\n", node->at("key").get<std::string>(), node->at("state").get<std::string>(),
                    printable(tags_text(node->at("tags")))));
  return {};
}

std::string round_line(const json& round) {
  if (!round.is_object()) return "none";
  return fmt::format("{} {}: {} invited, {} accepted", round.at("round").get<RoundNumber>(),
                     round.at("state").get<std::string>(), round.at("invited").get<std::uint64_t>(),
                     round.at("accepted").get<std::uint64_t>());
}

std::string schedule_line(const json& schedule) {
  const auto started = schedule.at("started").get<RoundNumber>();
  const auto until = schedule.at("until").get<RoundNumber>();
  const auto stopped = schedule.at("stopped").get<std::string>();
  std::string line = until > started ? fmt::format("{} to come", until - started) : "nothing to come";
  if (!stopped.empty()) line += ", stopped: " + stopped;
  return line;
}

}  // namespace

Status create_token(const ConnectionOptions& connection, const std::string& expires, std::uint32_t uses) {
  const auto lifetime = parse_duration(expires);
  if (!lifetime) return fail_at("--expires", lifetime.error());
  if (lifetime->count() < 1 || *lifetime > token_lifetime_max)
    return fail(Errc::invalid, fmt::format("--expires is {}: it must be from 1s to 366d", expires));
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto token = client->post("/v1/tokens", {{"expires_s", lifetime->count()}, {"uses", uses}});
  if (!token) return std::unexpected(token.error());
  print(token->at("token").get<std::string>() + '\n');
  return {};
}

Status list_tokens(const ConnectionOptions& connection, bool as_json) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto tokens = client->get_json("/v1/tokens");
  if (!tokens) return std::unexpected(tokens.error());
  if (as_json) {
    print(json_line(*tokens));
    return {};
  }
  TextTable table({"ID", "STATE", "CREATED (UTC)", "EXPIRES (UTC)", "USED"});
  for (const json& token : *tokens) {
    table.add({token.at("id").get<std::string>().substr(0, short_digits),
               token.at("state").get<std::string>(), time_text(token.at("created").get<std::string>()),
               time_text(token.at("expires").get<std::string>()),
               fmt::format("{} of {}", token.at("used").get<std::uint64_t>(),
                           token.at("uses").get<std::uint64_t>())});
  }
  print(table.text());
  return {};
}

Status revoke_token(const ConnectionOptions& connection, const std::string& id) {
  if (Status status = check_digits(id, "id of a token", "rivulet token list"); !status) return status;
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto token = client->post(fmt::format("/v1/tokens/{}/revoke", id), json::object());
  if (!token) return std::unexpected(token.error());
  print(fmt::format("{}  revoked; {} nodes had joined with it\n", token->at("id").get<std::string>(),
                    token->at("used").get<std::uint64_t>()));
  return {};
}

Status list_nodes(const ConnectionOptions& connection, bool as_json) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto nodes = client->get_json("/v1/nodes");
  if (!nodes) return std::unexpected(nodes.error());
  if (as_json) {
    print(json_line(*nodes));
    return {};
  }
  TextTable table({"KEY", "STATE", "CONNECTED", "LAST SEEN (UTC)", "SERVES", "SAMPLES", "TAGS"});
  for (const json& node : *nodes) {
    const auto serves = node.at("serves").get<VersionNumber>();
    table.add({node.at("key").get<std::string>().substr(0, short_digits), node.at("state").get<std::string>(),
               node.value("connected", false) ? "yes" : "no",
               time_text(node.at("last_seen").get<std::string>()), serves == 0 ? "-" : std::to_string(serves),
               std::to_string(node.at("samples").get<std::uint64_t>()), tags_text(node.at("tags"))});
  }
  print(table.text());
  return {};
}

Status tag_node(const ConnectionOptions& connection, const std::string& key,
                const std::vector<std::string>& tags) {
  const auto path = node_path(key, "tag");
  if (!path) return std::unexpected(path.error());
  return post_node(connection, *path, {{"tags", tags}});
}

Status change_node(const ConnectionOptions& connection, const std::string& key, const std::string& action) {
  const auto path = node_path(key, action);
  if (!path) return std::unexpected(path.error());
  return post_node(connection, *path, json::object());
}

Status show_status(const ConnectionOptions& connection, bool as_json) {
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto status = client->get_json("/v1/status");
  if (!status) return std::unexpected(status.error());
  if (as_json) {
    print(json_line(*status));
    return {};
  }
  const json& nodes = status->at("nodes");
  const auto count = [&](const char* key) { return nodes.at(key).get<std::uint64_t>(); };
  const json& trust = status->at("trust");
  const json& audit = status->at("audit");
  const auto version = status->at("version").get<VersionNumber>();
  print(fields_text(
      {{"fleet", fmt::format("{} {}", status->at("fleet").get<std::string>(),
                             status->at("fleet_id").get<std::string>())},
       {"nodes", fmt::format("{} active, {} connected, {} ready, {} quarantined, {} revoked", count("active"),
                             count("connected"), count("ready"), count("quarantined"), count("revoked"))},
       {"release", release_text(status->at("release"))},
       {"version", version == 0 ? "none" : std::to_string(version)},
       {"round", round_line(status->at("round"))},
       {"schedule", schedule_line(status->at("schedule"))},
       {"storage", status->at("storage").get<std::string>()},
       {"trust", fmt::format("document {}, {} {}", trust.at("version").get<std::uint64_t>(),
                             trust.at("expired").get<bool>() ? "expired" : "expires",
                             time_text(trust.at("expires").get<std::string>()))},
       {"audit", fmt::format("{} entries, head {}", audit.at("seq").get<std::uint64_t>(),
                             audit.at("head").get<std::string>().substr(0, short_digits))}}));
  return {};
}

}  // namespace rivulet::cli
