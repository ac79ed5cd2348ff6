#include "node/daemon/api.h"

#include <httplib.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "node/daemon/answer_json.h"
#include "node/daemon/request_json.h"
#include "protocol/sha256.h"

namespace rivulet::node {
namespace {

using Json = nlohmann::json;

constexpr auto json_type = "application/json";
constexpr auto raw_type = "application/octet-stream";
constexpr int silence_seconds_max = 3;  // Also how long an end can take.
constexpr std::size_t requests_per_connection_max = 1000;

int http_status(Errc code) {
  switch (code) {
    case Errc::invalid:
    case Errc::corrupt: return 400;
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

void answer_error(httplib::Response& response, int status, std::string_view error,
                  const std::string& detail) {
  response.status = status;
  response.set_content(one_line({{"error", error}, {"detail", detail}}), json_type);
}

void answer_error(httplib::Response& response, const Error& error) {
  answer_error(response, http_status(error.code), name(error.code), error.detail);
}

bool is_raw(const std::string& type) { return type.starts_with(raw_type); }

bool same_letters(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

/// Whether a web page of another origin sent it, through a browser on this machine (RFC 6454: Origin is the
/// page's).
bool of_foreign_page(const httplib::Request& request) {
  return request.has_header("Origin") &&
         !same_letters(request.get_header_value("Origin"), "http://" + request.get_header_value("Host"));
}

/// What no page can send without its Origin: forms can write JSON as text/plain, and old browsers name no
/// origin.
bool is_known_type(const std::string& type) {
  return type.empty() || is_raw(type) || type.starts_with(json_type) ||
         type.starts_with("application/x-www-form-urlencoded");  // What curl -d says, whatever the body is.
}

/// Knows whether connections wait for a thread.
class Threads final : public httplib::TaskQueue {
 public:
  Threads(std::size_t count, std::atomic<std::size_t>& waiting) : pool_(count), waiting_(waiting) {}
  void enqueue(std::function<void()> job) override {
    ++waiting_;
    pool_.enqueue([this, job = std::move(job)] {
      --waiting_;
      job();
    });
  }
  void shutdown() override { pool_.shutdown(); }

 private:
  httplib::ThreadPool pool_;
  std::atomic<std::size_t>& waiting_;
};

/// Right answers and errors side by side; if there are errors alone, the first one is the request's.
void answer_results(httplib::Response& response, Json results) {
  const auto is_wrong = [](const Json& result) { return result.contains("error"); };
  const bool none_is_right = !results.empty() && std::ranges::all_of(results, is_wrong);
  Json document = {{"results", std::move(results)}};
  if (none_is_right) {
    const Json& first = document["results"].front();
    response.status = 400;
    document["detail"] =
        fmt::format("sample {}: {}", first["index"].get<std::uint64_t>(), first["error"].get<std::string>());
    document["error"] = "invalid";
  }
  response.set_content(one_line(document), json_type);
}

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
  std::string lower(host);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return lower == "127.0.0.1" || lower == "localhost";
}

struct Api::Impl {
  explicit Impl(ApiParts what)
      : parts(std::move(what)), token_hash(sha256(bytes_of("Bearer " + parts.token))) {}

  ApiParts parts;
  const Digest token_hash;
  std::atomic<std::size_t> waiting = 0;  // connections without a thread
  httplib::Server server;
  std::string address;
  std::thread thread;

  using Handler = void (Impl::*)(const httplib::Request&, httplib::Response&);

  /// The checks come here and not before routing, where the body of a refused request would be left unread
  /// and taken for the next request.
  httplib::Server::Handler guarded(Handler handler) {
    return [this, handler](const httplib::Request& request, httplib::Response& response) {
      if (!is_local_host(request.get_header_value("Host"))) {
        return answer_error(response, 403, "permission", "the Host header must be 127.0.0.1 or localhost");
      }
      if (of_foreign_page(request)) {
        return answer_error(response, 403, "permission", "web pages of other origins may not call this API");
      }
      if (request.method == "POST" && !is_known_type(request.get_header_value("Content-Type"))) {
        return answer_error(response, 415, "unsupported",
                            "the Content-Type must be application/json or application/octet-stream");
      }
      // A thread serves one connection until that ends: who waits for one gets this, and the client connects
      // anew.
      if (waiting > 0) response.set_header("Connection", "close");
      (this->*handler)(request, response);
    };
  }

  void set_up(const ApiOptions& options) {
    // The library's own limits are for one browser: 5 requests a connection, and any size.
    server.new_task_queue = [this, threads = options.threads] { return new Threads(threads, waiting); };
    server.set_keep_alive_max_count(requests_per_connection_max);
    server.set_keep_alive_timeout(silence_seconds_max);
    server.set_read_timeout(silence_seconds_max);
    server.set_write_timeout(silence_seconds_max);
    server.set_payload_max_length(options.payload_bytes_max);
    server.set_tcp_nodelay(true);
    // Its default, SO_REUSEPORT, would let a second process take part of our requests.
    server.set_socket_options([](socket_t socket) {
      const int yes = 1;
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    server.Post("/v1/infer", guarded(&Impl::infer));
    server.Post("/v1/samples", guarded(&Impl::add_samples));
    server.Get("/v1/status", guarded(&Impl::status));
    server.Get("/healthz", guarded(&Impl::health));
    server.Get("/readyz", guarded(&Impl::readiness));
    server.Get("/metrics", guarded(&Impl::metrics));
    server.set_exception_handler(
        [](const httplib::Request&, httplib::Response& response, std::exception_ptr) {
          answer_error(response, 500, "internal", "the request could not be handled");
        });
    server.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
      if (!response.body.empty()) return;
      if (response.status == 413)
        return answer_error(response, 413, "too_large", "the body is larger than api.payload_bytes_max");
      if (response.status == 404)
        return answer_error(response, 404, "not_found",
                            request.method + " " + request.path + " is not known here");
      answer_error(response, response.status, "invalid", "the request is malformed");
    });
  }

  /// @return whether the request carries the token; if not, it is answered.
  bool authorised(const httplib::Request& request, httplib::Response& response) {
    // Hashes are compared, so that the time it takes tells nothing about the token.
    if (sha256(bytes_of(request.get_header_value("Authorization"))) == token_hash) return true;
    response.set_header("WWW-Authenticate", "Bearer");
    answer_error(response, 401, "permission",
                 "this call needs 'Authorization: Bearer' with the content of api.token");
    return false;
  }

  void infer(const httplib::Request& request, httplib::Response& response) {
    if (is_raw(request.get_header_value("Content-Type"))) return infer_raw(request, response);
    auto rows = read_inputs(request.body);
    if (!rows) return answer_error(response, rows.error());
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
    if (!answers) return answer_error(response, answers.error());
    Json results = Json::array();
    std::size_t place = 0;
    for (std::size_t i = 0; i < wrong.size(); ++i)
      results.push_back(wrong[i] ? error_json(i, wrong[i]->detail) : answer_json(*answers, place++, i));
    answer_results(response, std::move(results));
  }

  void infer_raw(const httplib::Request& request, httplib::Response& response) {
    if (request.body.size() % sizeof(float) != 0) {
      return answer_error(response, 400, "invalid",
                          fmt::format("{} bytes are no whole number of float32", request.body.size()));
    }
    std::vector<float> numbers(request.body.size() / sizeof(float));
    if (!numbers.empty()) std::memcpy(numbers.data(), request.body.data(), request.body.size());
    const auto answers = parts.inference.answer(std::span<const float>(numbers));
    if (!answers) return answer_error(response, answers.error());
    response.set_header("X-Rivulet-Version", std::to_string(answers->served->version));
    response.set_header("X-Rivulet-Variant", answers->served->variant);
    if (is_raw(request.get_header_value("Accept"))) {
      for (const auto& result : answers->results) {
        if (!result) return answer_error(response, result.error());
      }
      return response.set_content(raw_outputs(*answers), raw_type);
    }
    Json results = Json::array();
    for (std::size_t i = 0; i < answers->results.size(); ++i) results.push_back(answer_json(*answers, i, i));
    answer_results(response, std::move(results));
  }

  void add_samples(const httplib::Request& request, httplib::Response& response) {
    if (!authorised(request, response)) return;
    auto list = read_samples(request.body);
    if (!list) return answer_error(response, list.error());
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
    auto outcome = parts.samples.add(samples, parts.utc());
    if (outcome && request.get_param_value("sync") == "true") {
      if (const auto status = parts.samples.sync(); !status) outcome = std::unexpected(status.error());
    }
    if (!outcome) {
      if (outcome.error().code == Errc::storage) parts.on_storage(outcome.error());
      return answer_error(response, outcome.error());
    }
    parts.metrics.samples_added(*outcome);
    for (const auto& one : outcome->refused)
      refused.push_back({{"index", places[one.index]}, {"reason", one.reason}});
    const Json document = {{"stored", outcome->stored},
                           {"duplicate", outcome->duplicate},
                           {"dropped", outcome->dropped},
                           {"refused", std::move(refused)}};
    response.set_content(one_line(document), json_type);
  }

  void status(const httplib::Request&, httplib::Response& response) {
    const auto text = parts.status();
    if (!text) return answer_error(response, text.error());
    response.set_content(*text, json_type);
  }

  void health(const httplib::Request&, httplib::Response& response) {
    response.set_content(R"({"status":"ok"})", json_type);
  }

  void readiness(const httplib::Request&, httplib::Response& response) {
    const auto served = parts.inference.served();
    if (!served) return answer_error(response, 503, "busy", "no model serves yet");
    response.set_content(one_line({{"status", "ready"}, {"version", served->version}}), json_type);
  }

  void metrics(const httplib::Request&, httplib::Response& response) {
    parts.metrics.samples_held(parts.samples.counts());
    response.set_content(parts.metrics.text(), "text/plain; version=0.0.4; charset=utf-8");
  }
};

Api::Api(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Api::~Api() { stop(); }

Result<std::unique_ptr<Api>> Api::start(ApiParts parts, const ApiOptions& options) {
  auto impl = std::make_unique<Impl>(std::move(parts));
  impl->set_up(options);
  int port = options.listen.port;
  const bool bound = port == 0 ? (port = impl->server.bind_to_any_port(options.listen.host)) > 0
                               : impl->server.bind_to_port(options.listen.host, port);
  if (!bound) {
    return fail(Errc::busy,
                fmt::format("cannot listen on {}: another program does, or the port is reserved; change "
                            "api.listen in node.toml",
                            to_string(options.listen)));
  }
  impl->address = to_string(Endpoint{options.listen.host, static_cast<std::uint16_t>(port)});
  // The socket takes connections from here on; they wait until the thread accepts them.
  impl->thread = std::thread([server = &impl->server] { server->listen_after_bind(); });
  while (!impl->server.is_running()) std::this_thread::yield();  // stop() before that would do nothing.
  return std::unique_ptr<Api>(new Api(std::move(impl)));
}

const std::string& Api::address() const { return impl_->address; }

void Api::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->server.stop();
  impl_->thread.join();
}

}  // namespace rivulet::node
