#include "cli/admin_client.h"

#include <httplib.h>
#include <spdlog/fmt/fmt.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cli/files.h"
#include "storage/file.h"

namespace rivulet::cli {
namespace {

using nlohmann::json;

constexpr const char* default_address = "127.0.0.1:7480";
constexpr int connect_timeout_s = 5;
constexpr std::size_t error_bytes_max = 64 << 10;
constexpr std::size_t line_bytes_max = 1 << 20;

Errc errc_of(std::string_view text) {
  for (int code = 0; code <= static_cast<int>(Errc::internal); ++code) {
    if (text == name(static_cast<Errc>(code))) return static_cast<Errc>(code);
  }
  return Errc::internal;
}

/// The error in a coordinator's answer.
std::unexpected<Error> fail_answer(int status, const std::string& body) {
  const json answer = json::parse(body, nullptr, false);
  const bool sound = answer.is_object() && answer.contains("error") && answer["error"].is_string() &&
                     answer.contains("detail") && answer["detail"].is_string();
  if (!sound)
    return fail(Errc::corrupt,
                fmt::format("HTTP status {} without an error: is it a coordinator's admin API?", status));
  return fail(errc_of(answer["error"].get<std::string>()), answer["detail"].get<std::string>());
}

Result<Endpoint> find_endpoint(const ConnectionOptions& options) {
  if (!options.admin.empty()) return parse_admin_address(options.admin);
  if (options.folder.empty()) return parse_admin_address(default_address);
  std::error_code ignored;  // A folder that cannot be looked at has no file that can be read either.
  if (!std::filesystem::is_directory(options.folder, ignored)) {
    return fail(Errc::invalid,
                fmt::format("--dir {} is no folder: name the one of 'rivulet-coordinator init'",
                            options.folder.string()));
  }
  const auto run_file = options.folder / "run.json";
  const auto text = read_file(run_file, 64 << 10);
  if (!text && text.error().code == Errc::not_found) {
    return fail(Errc::disconnected,
                fmt::format("no coordinator runs in {0}: start it with 'rivulet-coordinator run --dir {0}'",
                            options.folder.string()));
  }
  if (!text) return std::unexpected(text.error());
  const json run = json::parse(text_of(*text), nullptr, false);
  if (!run.is_object() || !run.contains("admin") || !run["admin"].is_string()) {
    return fail(Errc::invalid,
                fmt::format("{} has no \"admin\" address: is it a coordinator's folder?", run_file.string()));
  }
  return parse_admin_address(run["admin"].get<std::string>());
}

Result<std::string> find_token(const ConnectionOptions& options) {
  if (!options.token_file.empty()) return load_token(options.token_file);
  if (const char* token = std::getenv("RIVULET_ADMIN_TOKEN"); token != nullptr && *token != '\0')
    return std::string(token);
  if (!options.folder.empty()) return load_token(options.folder / "admin.token");
  return fail(Errc::invalid,
              "no admin token: give --dir D, --token-file FILE, or RIVULET_ADMIN_TOKEN in the environment");
}

}  // namespace

struct AdminClient::Impl {
  Impl(const Endpoint& endpoint, const std::string& token, const std::filesystem::path& folder)
      : address(to_string(endpoint)),
        where(folder.empty() ? "D" : folder.string()),
        client(endpoint.host, endpoint.port) {
    headers.emplace("Authorization", "Bearer " + token);
    client.set_connection_timeout(connect_timeout_s);
    client.set_write_timeout(patience.count());
    client.set_tcp_nodelay(true);
  }

  std::unexpected<Error> fail_call(httplib::Error error) const {
    if (error == httplib::Error::Connection) {
      return fail(Errc::disconnected,
                  fmt::format("no coordinator answers at {}: start it with 'rivulet-coordinator run "
                              "--dir {}'",
                              address, where));
    }
    return fail(
        Errc::disconnected,
        fmt::format("{} broke off ({}): see the coordinator's log, and that this is its admin address",
                    address, httplib::to_string(error)));
  }

  Result<std::string> judge(httplib::Result result) const {
    if (!result) return fail_call(result.error());
    if (result->status != 200) return fail_answer(result->status, result->body);
    return std::move(result->body);
  }

  Result<json> parse(const Result<std::string>& body) const {
    if (!body) return std::unexpected(body.error());
    json answer = json::parse(*body, nullptr, false);
    if (answer.is_discarded())
      return fail(Errc::corrupt, fmt::format("{} answered what is no JSON: is it a coordinator?", address));
    return answer;
  }

  std::string address;
  std::string where;
  httplib::Headers headers;
  httplib::Client client;
};

Result<Endpoint> parse_admin_address(std::string_view text) {
  std::string_view address = text;
  constexpr std::string_view scheme = "http://";
  if (address.starts_with(scheme)) address.remove_prefix(scheme.size());
  if (address.ends_with('/')) address.remove_suffix(1);
  auto endpoint = parse_endpoint(address);
  if (!endpoint || endpoint->port == 0) {
    return fail(Errc::invalid,
                fmt::format("'{}' is no address of an admin API: write http://HOST:PORT", text));
  }
  return endpoint;
}

AdminClient::AdminClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AdminClient::AdminClient(AdminClient&&) noexcept = default;
AdminClient& AdminClient::operator=(AdminClient&&) noexcept = default;
AdminClient::~AdminClient() = default;

Result<AdminClient> AdminClient::open(const ConnectionOptions& options) {
  const auto endpoint = find_endpoint(options);
  if (!endpoint) return std::unexpected(endpoint.error());
  const auto token = find_token(options);
  if (!token) return std::unexpected(token.error());
  return AdminClient(std::make_unique<Impl>(*endpoint, *token, options.folder));
}

Result<std::string> AdminClient::get(const std::string& path) {
  impl_->client.set_read_timeout(patience.count());
  return impl_->judge(impl_->client.Get(path, impl_->headers));
}

Result<json> AdminClient::get_json(const std::string& path) { return impl_->parse(get(path)); }

Result<json> AdminClient::post(const std::string& path, const json& body, std::chrono::seconds most) {
  impl_->client.set_read_timeout(most.count());
  const std::string text = body.dump(-1, ' ', false, json::error_handler_t::replace);
  return impl_->parse(impl_->judge(impl_->client.Post(path, impl_->headers, text, "application/json")));
}

Status AdminClient::get_lines(const std::string& path, const std::function<Status(std::string_view)>& take) {
  impl_->client.set_read_timeout(patience.count());
  int http_status = 0;
  std::string rest;  // A line that is not yet whole, or the body of an error.
  Status taken;
  const auto begin = [&](const httplib::Response& response) {
    http_status = response.status;
    return true;
  };
  const auto receive = [&](const char* data, std::size_t size) {
    rest.append(data, size);
    if (http_status != 200) return rest.size() <= error_bytes_max;
    std::size_t from = 0;
    for (std::size_t end = rest.find('\n'); end != std::string::npos; end = rest.find('\n', from)) {
      taken = take(std::string_view(rest).substr(from, end - from));
      if (!taken) return false;
      from = end + 1;
    }
    rest.erase(0, from);
    if (rest.size() > line_bytes_max)
      taken = fail(Errc::corrupt, "the coordinator sent a line without an end");
    return taken.has_value();
  };
  const auto result = impl_->client.Get(path, impl_->headers, begin, receive);
  if (!taken) return taken;
  if (!result) return impl_->fail_call(result.error());
  if (http_status != 200) return fail_answer(http_status, rest);
  return rest.empty() ? Status{} : take(rest);
}

}  // namespace rivulet::cli
