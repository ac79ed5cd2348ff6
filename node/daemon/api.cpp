#include "node/daemon/api.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "http/server.h"
#include "node/daemon/answer_json.h"
#include "node/daemon/request_json.h"
#include "protocol/sha256.h"

namespace rivulet::node {
namespace {

using Json = nlohmann::json;

constexpr auto json_type = "application/json";
constexpr auto raw_type = "application/octet-stream";

int http_status(Errc code) {
  switch (code) {
    case Errc::invalid: return 400;
    case Errc::permission: return 401;
    case Errc::not_found: return 404;
    case Errc::too_large: return 413;
    case Errc::busy:
    case Errc::timeout:
    case Errc::cancelled: return 503;
    case Errc::storage_full: return 507;
    default: return 500;
  }
}

http::Response error_answer(int status, std::string_view error, const std::string& detail) {
  return {status, json_type, one_line({{"error", error}, {"detail", detail}})};
}

http::Response error_answer(const Error& error) {
  return error_answer(http_status(error.code), name(error.code), error.detail);
}

bool is_raw(std::string_view type) { return type.starts_with(raw_type); }

/// Whether a web page of another origin sent it, through a browser on this machine (RFC 6454: Origin is the
/// page's).
bool of_foreign_page(const http::Request& request) {
  const std::string_view origin = request.header("Origin");
  return !origin.empty() && !http::same_letters(origin, "http://" + std::string(request.header("Host")));
}

/// What no page can send without its Origin: forms can write JSON as text/plain, and old browsers name no
/// origin.
bool is_known_type(std::string_view type) {
  return type.empty() || is_raw(type) || type.starts_with(json_type) ||
         type.starts_with("application/x-www-form-urlencoded");  // What curl -d says, whatever the body is.
}

/// The results of a request, right ones and errors side by side, as text: a document of many would take many
/// times the memory.
class ResultList {
 public:
  void add(const Json& result) {
    if (count_++ > 0) text_ += ',';
    text_ += one_line(result);
    if (!result.contains("error")) {
      ++right_;
    } else if (first_error_.empty()) {
      first_error_ = fmt::format("sample {}: {}", result["index"].get<std::uint64_t>(),
                                 result["error"].get<std::string>());
    }
  }

  /// If there are errors alone, the first one is the request's.
  [[nodiscard]] http::Response answer() && {
    const bool refused = count_ > 0 && right_ == 0;
    std::string body = "{\"results\":[" + std::move(text_) + "]";
    if (refused) body += ",\"error\":\"invalid\",\"detail\":" + one_line(Json(first_error_));
    return {refused ? 400 : 200, json_type, std::move(body) + "}"};
  }

 private:
  std::string text_;
  std::size_t count_ = 0;
  std::size_t right_ = 0;
  std::string first_error_;
};

std::string raw_outputs(const Answers& answers) {
  std::string out;
  for (const auto& result : answers.results) {
    const std::vector<float>& values = result->class_index >= 0 ? result->probabilities : result->value;
    out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  return out;
}

}  // namespace

bool is_local_host(std::string_view host) {
  const std::size_t colon = host.find(':');
  if (colon != std::string_view::npos) {
    const std::string_view port = host.substr(colon + 1);
    if (port.empty() || port.find_first_not_of("0123456789") != std::string_view::npos) return false;
    host = host.substr(0, colon);
  }
  return http::same_letters(host, "127.0.0.1") || http::same_letters(host, "localhost");
}

struct Api::Impl {
  explicit Impl(ApiParts what)
      : parts(std::move(what)), token_hash(sha256(bytes_of("Bearer " + parts.token))) {}

  ApiParts parts;
  const Digest token_hash;
  std::string address;
  std::unique_ptr<http::Server> server;  // Last: it ends before what its threads use.

  struct Route {
    std::string_view method;
    std::string_view path;
    bool needs_token;
    http::Response (Impl::*answer)(const http::Request&);
  };
  static const Route* route_of(const http::Request& request);

  [[nodiscard]] std::optional<http::Response> refuse(const http::Request& head) const;
  [[nodiscard]] bool authorised(const http::Request& request) const;
  http::Response infer(const http::Request& request);
  http::Response infer_raw(const http::Request& request);
  http::Response add_samples(const http::Request& request);
  http::Response status(const http::Request& request);
  http::Response health(const http::Request& request);
  http::Response readiness(const http::Request& request);
  http::Response metrics(const http::Request& request);
};

const Api::Impl::Route* Api::Impl::route_of(const http::Request& request) {
  static constexpr Route routes[] = {
      {"POST", "/v1/infer", false, &Impl::infer},  {"POST", "/v1/samples", true, &Impl::add_samples},
      {"GET", "/v1/status", false, &Impl::status}, {"GET", "/healthz", false, &Impl::health},
      {"GET", "/readyz", false, &Impl::readiness}, {"GET", "/metrics", false, &Impl::metrics}};
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  const auto* found = std::ranges::find_if(
      routes, [&](const Route& route) { return route.method == method && route.path == request.path; });
  return found == std::end(routes) ? nullptr : found;
}

std::optional<http::Response> Api::Impl::refuse(const http::Request& head) const {
  if (!is_local_host(head.header("Host")))
    return error_answer(403, "permission", "the Host header must be 127.0.0.1 or localhost");
  if (of_foreign_page(head))
    return error_answer(403, "permission", "web pages of other origins may not call this API");
  const Route* route = route_of(head);
  if (route == nullptr)
    return error_answer(404, "not_found", head.method + " " + head.path + " is not known here");
  if (head.method == "POST" && !is_known_type(head.header("Content-Type"))) {
    return error_answer(415, "unsupported",
                        "the Content-Type must be application/json or application/octet-stream");
  }
  if (!route->needs_token || authorised(head)) return std::nullopt;
  http::Response answer = error_answer(
      401, "permission", "this call needs 'Authorization: Bearer' with the content of api.token");
  answer.headers.emplace_back("WWW-Authenticate", "Bearer");
  return answer;
}

bool Api::Impl::authorised(const http::Request& request) const {
  // Hashes are compared, so that the time it takes tells nothing about the token.
  return sha256(bytes_of(request.header("Authorization"))) == token_hash;
}

http::Response Api::Impl::infer(const http::Request& request) {
  if (is_raw(request.header("Content-Type"))) return infer_raw(request);
  auto rows = read_inputs(request.body);
  if (!rows) return error_answer(rows.error());
  std::vector<std::vector<float>> samples;
  std::vector<std::optional<Error>> wrong(rows->size());
  for (std::size_t i = 0; i < rows->size(); ++i) {
    auto& row = (*rows)[i];
    if (!row) {
      wrong[i] = std::move(row.error());
    } else {
      samples.push_back(std::move(*row));
    }
  }
  const auto answers = parts.inference.answer(samples);
  if (!answers) return error_answer(answers.error());
  ResultList results;
  std::size_t place = 0;
  for (std::size_t i = 0; i < wrong.size(); ++i)
    results.add(wrong[i] ? error_json(i, wrong[i]->detail) : answer_json(*answers, place++, i));
  return std::move(results).answer();
}

http::Response Api::Impl::infer_raw(const http::Request& request) {
  if (request.body.size() % sizeof(float) != 0) {
    return error_answer(400, "invalid",
                        fmt::format("{} bytes are no whole number of float32", request.body.size()));
  }
  std::vector<float> numbers(request.body.size() / sizeof(float));
  if (!numbers.empty()) std::memcpy(numbers.data(), request.body.data(), request.body.size());
  const auto served = parts.inference.served();
  if (served && numbers.size() / served->model.input_size() > samples_per_request_max) {
    return error_answer(413, "too_large",
                        fmt::format("more than {} samples in one request", samples_per_request_max));
  }
  const auto answers = parts.inference.answer(std::span<const float>(numbers));
  if (!answers) return error_answer(answers.error());
  http::Response response;
  if (is_raw(request.header("Accept"))) {
    for (const auto& result : answers->results) {
      if (!result) return error_answer(result.error());
    }
    response = {200, raw_type, raw_outputs(*answers)};
  } else {
    ResultList results;
    for (std::size_t i = 0; i < answers->results.size(); ++i) results.add(answer_json(*answers, i, i));
    response = std::move(results).answer();
  }
  response.headers.emplace_back("X-Rivulet-Version", std::to_string(answers->served->version));
  response.headers.emplace_back("X-Rivulet-Variant", answers->served->variant);
  return response;
}

http::Response Api::Impl::add_samples(const http::Request& request) {
  auto list = read_samples(request.body);
  if (!list) return error_answer(list.error());
  std::vector<NewSample> samples;
  std::vector<std::size_t> places;
  Json refused = Json::array();
  for (std::size_t i = 0; i < list->size(); ++i) {
    auto& sample = (*list)[i];
    if (!sample) {
      refused.push_back({{"index", i}, {"reason", sample.error().detail}});
      continue;
    }
    samples.push_back(std::move(*sample));
    places.push_back(i);
  }
  parts.metrics.samples_refused(refused.size());
  auto outcome = parts.samples.add(samples, parts.utc());
  if (outcome && request.asks("sync", "true")) {
    if (const auto status = parts.samples.sync(); !status) outcome = std::unexpected(status.error());
  }
  if (!outcome) {
    if (outcome.error().code == Errc::storage) parts.on_storage(outcome.error());
    return error_answer(outcome.error());
  }
  parts.metrics.samples_added(*outcome);
  for (const auto& one : outcome->refused)
    refused.push_back({{"index", places[one.index]}, {"reason", one.reason}});
  const Json document = {{"stored", outcome->stored},
                         {"duplicate", outcome->duplicate},
                         {"dropped", outcome->dropped},
                         {"refused", std::move(refused)}};
  return {200, json_type, one_line(document)};
}

http::Response Api::Impl::status(const http::Request&) {
  auto text = parts.status();
  if (!text) return error_answer(text.error());
  return {200, json_type, std::move(*text)};
}

http::Response Api::Impl::health(const http::Request&) { return {200, json_type, R"({"status":"ok"})"}; }

http::Response Api::Impl::readiness(const http::Request&) {
  const auto served = parts.inference.served();
  if (!served) return error_answer(503, "busy", "no model serves yet");
  return {200, json_type, one_line({{"status", "ready"}, {"version", served->version}})};
}

http::Response Api::Impl::metrics(const http::Request&) {
  parts.metrics.samples_held(parts.samples.counts());
  return {200, "text/plain; version=0.0.4; charset=utf-8", parts.metrics.text()};
}

Api::Api(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Api::~Api() { stop(); }

Result<std::unique_ptr<Api>> Api::start(ApiParts parts, const ApiOptions& options) {
  auto impl = std::make_unique<Impl>(std::move(parts));
  http::Limits limits;
  limits.threads = options.threads;
  limits.body_bytes_max = options.payload_bytes_max;
  limits.busy_poll_max = options.busy_poll_max;
  http::Service service{
      .refuse = [api = impl.get()](const http::Request& head) { return api->refuse(head); },
      .answer =
          [api = impl.get()](const http::Request& request) {
            return (api->*Impl::route_of(request)->answer)(request);
          },
      .explain =
          [](int status, const std::string& detail) {
            if (status == 413)
              return error_answer(413, "too_large", detail + ": see api.payload_bytes_max in node.toml");
            const char* error = status == 500 ? "internal" : status == 503 ? "busy" : "invalid";
            return error_answer(status, error, detail);
          }};
  auto server = http::Server::start(options.listen, limits, std::move(service));
  if (!server) return std::unexpected(server.error());
  impl->server = std::move(*server);
  impl->address = to_string(Endpoint{options.listen.host, impl->server->local_endpoint().port});
  return std::unique_ptr<Api>(new Api(std::move(impl)));
}

const std::string& Api::address() const { return impl_->address; }

void Api::stop() { impl_->server->stop(); }

}  // namespace rivulet::node
