#include "http/server.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <list>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace rivulet::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using BeastResponse = beast::http::response<beast::http::string_body>;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t head_bytes_max = 8 << 10;
/// Most requests come in one piece, and are then read by one call.
constexpr std::size_t buffer_bytes = 16 << 10;
/// Of these there is always room: one for each connection is little.
constexpr std::uint64_t small_body_bytes = 64 << 10;
/// What a refused client may still send, so that it reads the answer before its connection breaks.
constexpr std::size_t drain_bytes_max = 4 << 20;
constexpr std::chrono::seconds drain_time_max{2};

std::string text(beast::string_view view) { return {view.data(), view.size()}; }

template <typename Fields>
Request request_of(const Fields& fields) {
  Request request;
  request.method = text(fields.method_string());
  const std::string target = text(fields.target());
  const std::size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark != std::string::npos) request.query = target.substr(mark + 1);
  for (const auto& field : fields)
    request.headers.emplace_back(text(field.name_string()), text(field.value()));
  return request;
}

BeastResponse response_of(Response&& from, unsigned version, bool keep_alive) {
  BeastResponse response;
  response.version(version);
  response.result(static_cast<unsigned>(from.status));
  if (!from.type.empty()) response.set(beast::http::field::content_type, from.type);
  for (const auto& [name, value] : from.headers) response.set(name, value);
  response.body() = std::move(from.body);
  response.keep_alive(keep_alive);
  response.prepare_payload();
  return response;
}

/// The room that all bodies under way share. Thread-safe.
class BodyRoom {
 public:
  explicit BodyRoom(std::uint64_t bytes) : left_(bytes) {}
  /// @return false if there is no such room just now.
  bool take(std::uint64_t bytes) {
    std::uint64_t left = left_.load();
    while (left >= bytes) {
      if (left_.compare_exchange_weak(left, left - bytes)) return true;
    }
    return false;
  }
  void give_back(std::uint64_t bytes) { left_ += bytes; }

 private:
  std::atomic<std::uint64_t> left_;
};

class Session;

/// One thread and the connections that it serves. Nothing of them is shared with other threads, so that a
/// request wakes one thread and no more; deadlines are looked at now and then in place of a timer for each.
class Lane {
 public:
  Lane(const Limits& limits, const Service& service, BodyRoom& room)
      : limits_(limits), service_(service), room_(room) {
    watch();
    thread_ = std::thread([this] { run(); });
  }
  ~Lane() {
    stop();
    thread_.join();
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  /// From any thread.
  void take(tcp::socket&& socket, const tcp& protocol);
  /// From any thread: ends idle connections now, others once they are answered or too late, and then the
  /// thread.
  void stop();
  [[nodiscard]] std::size_t connections() const { return count_; }
  [[nodiscard]] bool is_busy() const { return busy_; }

  // For sessions, on this thread.
  std::list<Session*>::iterator enter(Session* session) { return sessions_.insert(sessions_.end(), session); }
  void leave(std::list<Session*>::iterator place);
  [[nodiscard]] const Limits& limits() const { return limits_; }
  BodyRoom& room() { return room_; }
  [[nodiscard]] bool is_stopping() const { return stopping_; }
  std::optional<Response> refuse(const Request& head) {
    return guarded<std::optional<Response>>([&] { return service_.refuse(head); });
  }
  Response answer(const Request& request) {
    busy_ = true;
    Response response = guarded<Response>([&] { return service_.answer(request); });
    busy_ = false;
    return response;
  }
  Response explain(int status, const std::string& detail) { return service_.explain(status, detail); }

 private:
  template <typename Answer, typename Work>
  Answer guarded(Work work) {
    try {
      return work();
    } catch (...) {
      return explain(500, "the request could not be handled");
    }
  }

  /// What throws, for want of memory for example, costs the connection that it was for.
  void run() {
    while (true) {
      try {
        io_.run();
        return;
      } catch (...) {
        busy_ = false;
      }
    }
  }
  void admit(const tcp& protocol, tcp::socket::native_handle_type handle);
  void watch();
  void end_if_empty();

  const Limits limits_;
  const Service& service_;
  BodyRoom& room_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  asio::steady_timer watch_{io_};
  std::list<Session*> sessions_;
  std::atomic<std::size_t> count_ = 0;
  std::atomic<bool> busy_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

/// One connection; on its lane's thread. It lives as long as one of its operations is under way.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, Lane& lane) : socket_(std::move(socket)), lane_(lane) {
    beast::error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    in_.reserve(buffer_bytes);
    place_ = lane.enter(this);  // Last: a constructor that throws has no destructor.
  }
  ~Session() {
    lane_.room().give_back(room_);
    lane_.leave(place_);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void read_head() {
    if (lane_.is_stopping()) return close();
    idle_ = true;
    parser_.emplace();
    parser_->header_limit(head_bytes_max);
    parser_->body_limit(lane_.limits().body_bytes_max);
    parser_->eager(true);  // With the head comes what is there of the body.
    allow(lane_.limits().idle_max);
    beast::http::async_read_header(socket_, in_, *parser_,
                                   [self = shared_from_this()](beast::error_code error, std::size_t) {
                                     self->idle_ = false;
                                     self->on_head(error);
                                   });
  }

  void end_if_late(Clock::time_point now) {
    if (now >= deadline_) close();
  }
  void end_soon(Clock::time_point at) {
    if (idle_) close();
    deadline_ = std::min(deadline_, at);
  }

 private:
  void allow(Clock::duration time) { deadline_ = Clock::now() + time; }

  void on_head(beast::error_code error) {
    if (error) return on_broken(error);
    request_ = request_of(parser_->get());
    if (auto refusal = lane_.refuse(request_)) return send(std::move(*refusal), false);
    if (parser_->is_done()) return answer();
    // Of a body in chunks nobody knows the length before its end.
    if (!take_room(parser_->content_length().value_or(lane_.limits().body_bytes_max))) {
      return send(lane_.explain(503, "too many large requests are under way: try again in a moment"), false);
    }
    allow(lane_.limits().body_time_max);
    if (same_letters(request_.header("Expect"), "100-continue")) return send_continue();
    read_body();
  }

  bool take_room(std::uint64_t bytes) {
    if (bytes <= small_body_bytes) return true;
    if (!lane_.room().take(bytes)) return false;
    room_ = bytes;
    return true;
  }
  /// Nothing is kept of a request once its answer is known.
  void forget_request() {
    request_ = {};
    parser_->get().body() = {};
    lane_.room().give_back(std::exchange(room_, 0));
  }

  void send_continue() {
    static const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";  // RFC 9110, 10.1.1
    asio::async_write(socket_, asio::buffer(go_on),
                      [self = shared_from_this()](beast::error_code error, std::size_t) {
                        if (!error) self->read_body();
                      });
  }

  void read_body() {
    beast::http::async_read(socket_, in_, *parser_,
                            [self = shared_from_this()](beast::error_code error, std::size_t) {
                              if (error) return self->on_broken(error);
                              self->answer();
                            });
  }

  void answer() {
    request_.body = std::move(parser_->get().body());
    Response response = lane_.answer(request_);
    send(std::move(response), parser_->get().keep_alive() && !lane_.is_stopping());
  }

  void on_broken(beast::error_code broken) {
    using beast::http::error;
    if (broken == error::body_limit) {
      return send(lane_.explain(413, "the body is larger than " +
                                         std::to_string(lane_.limits().body_bytes_max) + " bytes"),
                  false);
    }
    if (broken == error::header_limit)
      return send(lane_.explain(431, "the request's headers are too long"), false);
    // Nobody is left to be told of a connection that ended or took too long, in a request or between two.
    const beast::error_code end = error::end_of_stream;
    if (broken.category() != end.category() || broken == end || broken == error::partial_message)
      return close();
    send(lane_.explain(400, "the request is malformed: " + broken.message()), false);
  }

  void send(Response&& response, bool keep_alive) {
    forget_request();
    const auto& request = parser_->get();
    out_.emplace(response_of(std::move(response), request.version() == 10 ? 10 : 11, keep_alive));
    if (request.method() == beast::http::verb::head) out_->body().clear();
    allow(lane_.limits().answer_time_max);
    beast::http::async_write(socket_, *out_,
                             [self = shared_from_this(), keep_alive](beast::error_code error, std::size_t) {
                               self->out_.reset();
                               if (error) return;
                               if (keep_alive) return self->read_head();
                               self->drain();
                             });
  }

  /// Ends our half, and waits until the client has ended its own: it may still be sending what was refused.
  void drain() {
    beast::error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    drained_.resize(64 << 10);
    allow(drain_time_max);
    drain_more(0);
  }

  void drain_more(std::size_t so_far) {
    socket_.async_read_some(asio::buffer(drained_),
                            [self = shared_from_this(), so_far](beast::error_code error, std::size_t size) {
                              if (error || so_far + size > drain_bytes_max) return self->close();
                              self->drain_more(so_far + size);
                            });
  }

  void close() {
    beast::error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
  }

  tcp::socket socket_;
  Lane& lane_;
  std::list<Session*>::iterator place_;
  Clock::time_point deadline_;
  beast::flat_buffer in_;
  std::optional<beast::http::request_parser<beast::http::string_body>> parser_;
  Request request_;
  std::uint64_t room_ = 0;  // of the lane's BodyRoom
  std::optional<BeastResponse> out_;
  std::vector<char> drained_;
  bool idle_ = false;
};

void Lane::take(tcp::socket&& socket, const tcp& protocol) {
  ++count_;
  // It waits on this lane's reactor from now on.
  asio::post(io_, [this, protocol, handle = socket.release()] { admit(protocol, handle); });
}

void Lane::admit(const tcp& protocol, tcp::socket::native_handle_type handle) {
  std::shared_ptr<Session> session;
  try {
    session = std::make_shared<Session>(tcp::socket(io_, protocol, handle), *this);
  } catch (...) {
    --count_;
    throw;
  }
  session->read_head();
}

void Lane::leave(std::list<Session*>::iterator place) {
  sessions_.erase(place);
  --count_;
  end_if_empty();
}

void Lane::stop() {
  asio::post(io_, [this] {
    stopping_ = true;
    const auto end = Clock::now() + limits_.end_time_max;
    for (Session* session : sessions_) session->end_soon(end);
    end_if_empty();
  });
}

void Lane::end_if_empty() {
  if (!stopping_ || !sessions_.empty()) return;
  watch_.cancel();
  work_.reset();
}

void Lane::watch() {
  const auto shortest = std::min({limits_.idle_max, limits_.body_time_max, limits_.answer_time_max});
  watch_.expires_after(std::clamp<std::chrono::milliseconds>(shortest / 8, std::chrono::milliseconds(10),
                                                             std::chrono::seconds(1)));
  watch_.async_wait([this](beast::error_code ended) {
    if (ended || (stopping_ && sessions_.empty())) return;
    const auto now = Clock::now();
    for (Session* session : sessions_) session->end_if_late(now);
    watch();
  });
}

}  // namespace

struct Server::Impl {
  Limits limits;
  Service service;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  asio::steady_timer retry{io};
  tcp::endpoint local;
  std::optional<BodyRoom> room;
  std::vector<std::unique_ptr<Lane>> lanes;
  std::thread thread;

  /// On the thread. What throws costs one connection.
  void run() {
    for (bool broken = false;;) {
      try {
        if (std::exchange(broken, false)) {
          io.restart();
          if (acceptor.is_open()) accept();
        }
        io.run();
        return;
      } catch (...) {
        broken = true;
      }
    }
  }

  void accept() {
    acceptor.async_accept([this](beast::error_code error, tcp::socket socket) {
      if (!acceptor.is_open()) return;
      if (!error) {
        place(std::move(socket));
        return accept();
      }
      // Out of descriptors, for example: at once it would fail again.
      retry.expires_after(std::chrono::milliseconds(100));
      retry.async_wait([this](beast::error_code ended) {
        if (!ended && acceptor.is_open()) accept();
      });
    });
  }

  /// On the lane with the fewest connections, of those that handle no request just now if there are any.
  void place(tcp::socket&& socket) {
    std::size_t connections = 0;
    for (const auto& lane : lanes) connections += lane->connections();
    if (connections >= limits.connections_max) return;
    const auto load = [](const std::unique_ptr<Lane>& lane) {
      return std::pair(lane->is_busy(), lane->connections());
    };
    (*std::ranges::min_element(lanes, {}, load))->take(std::move(socket), local.protocol());
  }
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { stop(); }

Result<std::unique_ptr<Server>> Server::start(const Endpoint& listen, const Limits& limits, Service service) {
  auto impl = std::make_unique<Impl>();
  impl->limits = limits;
  impl->service = std::move(service);
  beast::error_code error;
  tcp::resolver resolver(impl->io);
  const auto found =
      resolver.resolve(listen.host, std::to_string(listen.port), tcp::resolver::passive, error);
  if (error || found.empty())
    return fail(Errc::invalid, "cannot listen on " + to_string(listen) + ": " + error.message());
  const tcp::endpoint at = found.begin()->endpoint();
  impl->acceptor.open(at.protocol(), error);
  // Without SO_REUSEPORT, by which a second process would take part of the requests.
  if (!error) impl->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) impl->acceptor.bind(at, error);
  if (!error) impl->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail(Errc::busy, "cannot listen on " + to_string(listen) + ": " + error.message());
  impl->local = impl->acceptor.local_endpoint();
  impl->room.emplace(std::max(limits.bodies_bytes_max, limits.body_bytes_max));
  try {
    for (std::size_t i = 0; i < limits.threads; ++i)
      impl->lanes.push_back(std::make_unique<Lane>(impl->limits, impl->service, *impl->room));
    impl->accept();
    impl->thread = std::thread([running = impl.get()] { running->run(); });
  } catch (const std::system_error& failed) {
    return fail(Errc::internal, "cannot start the threads of " + to_string(listen) + ": " + failed.what());
  }
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Endpoint Server::local_endpoint() const { return {impl_->local.address().to_string(), impl_->local.port()}; }

void Server::stop() {
  if (!impl_->thread.joinable()) return;
  asio::post(impl_->io, [impl = impl_.get()] {
    beast::error_code ignored;
    impl->acceptor.close(ignored);
    impl->retry.cancel();
  });
  impl_->thread.join();
  for (const auto& lane : impl_->lanes) lane->stop();
  impl_->lanes.clear();
}

}  // namespace rivulet::http
