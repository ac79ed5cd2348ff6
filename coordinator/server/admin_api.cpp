#include "coordinator/server/admin_api.h"

#include <httplib.h>
#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "coordinator/server/admin_commands.h"
#include "coordinator/server/bounded_server.h"
#include "protocol/sha256.h"

namespace rivulet::coordinator {
namespace {

using httplib::Request;
using httplib::Response;

constexpr std::uint64_t small_body_bytes_max = 1 << 20;
/// Of a body that is not wanted, so much is read: a client that is cut off in mid-sentence loses the answer.
constexpr std::uint64_t drain_bytes_max = std::uint64_t{64} << 20;
constexpr std::string_view bearer = "Bearer ";

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1" || address.starts_with("::ffff:127.");
}

/// Takes the same time wherever the two differ.
bool equal(const Digest& a, const Digest& b) {
  std::byte difference{0};
  for (std::size_t i = 0; i < Digest::size; ++i) difference |= a.bytes[i] ^ b.bytes[i];
  return difference == std::byte{0};
}

void put(Response& response, const AdminAnswer& answer) {
  response.status = answer.status;
  response.set_content(answer.body, answer.type);
}

void put(Response& response, const Result<AdminAnswer>& answer) {
  put(response, answer ? *answer : error_answer(answer.error()));
}

/// A form of many parts, which nobody sends us on purpose (curl's -F), to its end, as any other body.
void drain_form(const httplib::ContentReader& reader) {
  std::uint64_t arrived = 0;
  std::ignore = reader([](const httplib::MultipartFormData&) { return true; },
                       [&](const char*, std::size_t size) { return (arrived += size) <= drain_bytes_max; });
}

/// @return too_large, invalid for a form, or corrupt for a body that ends too early.
Result<std::string> read_body(const Request& request, const httplib::ContentReader& reader,
                              const Response& response, std::uint64_t bytes_max) {
  if (request.is_multipart_form_data()) {  // The library would call a receiver that is not there.
    drain_form(reader);
    return fail(Errc::invalid, "the body is a form (multipart/form-data): send JSON");
  }
  std::string body;
  // Growing by doubling would take a large one twice.
  const std::uint64_t announced =
      std::strtoull(request.get_header_value("Content-Length").c_str(), nullptr, 10);
  body.reserve(std::min(announced, bytes_max));
  std::uint64_t arrived = 0;
  const bool whole = reader([&](const char* data, std::size_t size) {
    arrived += size;
    if (arrived <= bytes_max) {
      body.append(data, size);
    } else {
      body = {};
    }
    return arrived <= bytes_max + drain_bytes_max;
  });
  const bool refused_by_library = response.status == 413;  // By the length that its header names.
  if (arrived > bytes_max || refused_by_library) {
    return fail(Errc::too_large, "the body is larger than " + std::to_string(bytes_max) + " bytes");
  }
  if (!whole) return fail(Errc::corrupt, "the body ended too early");
  return body;
}

}  // namespace

struct AdminApi::Impl {
  Impl(Options all, AdminDesk& to_ask)
      : options(std::move(all)),
        token(sha256(bytes_of(options.token))),
        desk(to_ask),
        server(BoundedServer::Limits{.threads = options.threads}) {}

  void set_limits();
  void add_routes();
  void add_monitoring();
  void refuse_the_rest();
  [[nodiscard]] Status authorize(const Request& request) const;
  void get(const AdminRoute& route);
  void post(const AdminRoute& route);

  Options options;
  Digest token;
  AdminDesk& desk;
  BoundedServer server;
  int port = 0;
  std::thread thread;
};

void AdminApi::Impl::set_limits() {
  server.set_tcp_nodelay(true);
  server.set_payload_max_length(std::max(options.body_bytes_max, drain_bytes_max));
  // The library's own choice, SO_REUSEPORT, would let two daemons share a port without a word.
  server.set_socket_options([](int socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_exception_handler([](const Request&, Response& response, const std::exception_ptr& exception) {
    std::string what = "an unknown exception";
    try {
      std::rethrow_exception(exception);
    } catch (const std::exception& error) {
      what = error.what();
    } catch (...) {
    }
    put(response, error_answer({Errc::internal, what}));
  });
  server.set_error_handler([](const Request& request, Response& response) {
    if (!response.body.empty()) return;
    const int status = response.status;
    put(response, error_answer({status == 404   ? Errc::not_found
                                : status == 413 ? Errc::too_large
                                                : Errc::invalid,
                                status == 404 ? "there is no " + request.method + " " + request.path
                                              : "the request is not in order"}));
    response.status = status;
  });
}

Status AdminApi::Impl::authorize(const Request& request) const {
  const std::string header = request.get_header_value("Authorization");
  if (!header.starts_with(bearer)) {
    return fail(Errc::permission,
                "this call needs the header \"Authorization: Bearer TOKEN\": see admin.token");
  }
  if (!equal(sha256(bytes_of(std::string_view(header).substr(bearer.size()))), token)) {
    return fail(Errc::permission, "the token is not this coordinator's: see admin.token in its folder");
  }
  return {};
}

void AdminApi::Impl::get(const AdminRoute& route) {
  server.Get(std::string(route.pattern), [this, route](const Request& request, Response& response) {
    if (const Status status = authorize(request); !status) return put(response, error_answer(status.error()));
    AdminRequest asked;
    for (std::size_t i = 1; i < request.matches.size(); ++i)
      asked.parameters.push_back(request.matches[i].str());
    put(response, route.handle(desk, asked));
  });
}

void AdminApi::Impl::post(const AdminRoute& route) {
  const std::uint64_t bytes_max = route.takes_release ? options.body_bytes_max : small_body_bytes_max;
  server.Post(std::string(route.pattern), [this, route, bytes_max](const Request& request, Response& response,
                                                                   const httplib::ContentReader& reader) {
    // Nothing of a stranger's body is kept.
    const Status allowed = authorize(request);
    auto body = read_body(request, reader, response, allowed ? bytes_max : 0);
    if (!allowed) return put(response, error_answer(allowed.error()));
    if (!body) return put(response, error_answer(body.error()));
    AdminRequest asked{{}, std::move(*body)};
    for (std::size_t i = 1; i < request.matches.size(); ++i)
      asked.parameters.push_back(request.matches[i].str());
    put(response, route.handle(desk, asked));
  });
}

void AdminApi::Impl::add_monitoring() {
  struct Page {
    const char* path;
    AdminAnswer (*answer)(AdminDesk&);
  };
  for (const Page& page : {Page{"/healthz", health}, Page{"/readyz", readiness}, Page{"/metrics", metrics}}) {
    server.Get(page.path, [this, page](const Request& request, Response& response) {
      const Status allowed = is_loopback(request.remote_addr) ? Status{} : authorize(request);
      put(response, allowed ? page.answer(desk) : error_answer(allowed.error()));
    });
  }
  server.Get("/v1/audit", [this](const Request& request, Response& response) {
    if (const Status status = authorize(request); !status) return put(response, error_answer(status.error()));
    const auto next = std::make_shared<std::uint64_t>(1);
    if (request.has_param("from"))
      *next = std::strtoull(request.get_param_value("from").c_str(), nullptr, 10);
    response.set_chunked_content_provider("application/x-ndjson",
                                          [this, next](std::size_t, httplib::DataSink& sink) {
                                            const auto lines = audit_lines(desk, *next);
                                            if (!lines) return false;
                                            if (!lines->empty())
                                              return sink.write(lines->data(), lines->size());
                                            sink.done();
                                            return true;
                                          });
  });
}

void AdminApi::Impl::refuse_the_rest() {
  // Without these the library would read a stranger's body into memory before it says 404.
  const auto refuse = [](const Request& request, Response& response, const httplib::ContentReader& reader) {
    std::ignore = read_body(request, reader, response, 0);
    put(response, error_answer({Errc::not_found, "there is no " + request.method + " " + request.path}));
  };
  server.Post(".*", refuse);
  server.Put(".*", refuse);
  server.Patch(".*", refuse);
  server.Delete(".*", refuse);
  server.set_pre_routing_handler([](const Request& request, Response& response) {
    for (const char* method : {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}) {
      if (request.method == method) return httplib::Server::HandlerResponse::Unhandled;
    }
    put(response, error_answer({Errc::not_found, "there is no " + request.method + " " + request.path}));
    return httplib::Server::HandlerResponse::Handled;
  });
}

void AdminApi::Impl::add_routes() {
  for (const AdminRoute& route : admin_routes()) {
    if (route.method == "GET") {
      get(route);
    } else {
      post(route);
    }
  }
  add_monitoring();
  refuse_the_rest();
}

Result<std::unique_ptr<AdminApi>> AdminApi::open(Options options, AdminDesk& desk) {
  auto impl = std::make_unique<Impl>(std::move(options), desk);
  impl->set_limits();
  impl->add_routes();
  const Endpoint& at = impl->options.listen;
  if (at.port == 0) {
    impl->port = impl->server.bind_to_any_port(at.host);
  } else if (impl->server.bind_to_port(at.host, at.port)) {
    impl->port = at.port;
  }
  if (impl->port <= 0) {
    return fail(Errc::conflict, "cannot listen on " + to_string(at) + " for the admin API");
  }
  return std::unique_ptr<AdminApi>(new AdminApi(std::move(impl)));
}

AdminApi::AdminApi(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AdminApi::~AdminApi() {
  stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}

void AdminApi::start(std::function<void()> stopped) {
  impl_->thread = std::thread([this, stopped = std::move(stopped)] {
    impl_->server.listen_after_bind();
    stopped();
  });
  // stop() would pass over a server that is not yet running.
  while (!impl_->server.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void AdminApi::stop() { impl_->server.stop(); }

Endpoint AdminApi::local_endpoint() const {
  return {impl_->options.listen.host, static_cast<std::uint16_t>(impl_->port)};
}

}  // namespace rivulet::coordinator
