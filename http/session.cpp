#include "http/session.h"

#include <algorithm>
#include <boost/asio/write.hpp>
#include <string>
#include <utility>

namespace rivulet::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using BeastResponse = beast::http::response<beast::http::string_body>;

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

}  // namespace

Session::Session(tcp::socket socket, Lane& lane) : socket_(std::move(socket)), lane_(lane) {
  beast::error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  in_.reserve(buffer_bytes);
  place_ = lane.enter(this);  // Last: a constructor that throws has no destructor.
}

Session::~Session() {
  lane_.room().give_back(room_);
  lane_.leave(place_);
}

void Session::read_head() {
  if (lane_.is_stopping()) return close();
  is_idle_ = true;
  parser_.emplace();
  parser_->header_limit(head_bytes_max);
  parser_->body_limit(lane_.limits().body_bytes_max);
  parser_->eager(true);  // With the head comes what is there of the body.
  allow(lane_.limits().idle_max);
  beast::http::async_read_header(socket_, in_, *parser_,
                                 [self = shared_from_this()](beast::error_code error, std::size_t) {
                                   self->is_idle_ = false;
                                   self->on_head(error);
                                 });
}

void Session::end_if_late(Clock::time_point now) {
  if (now >= deadline_) close();
}

void Session::end_soon(Clock::time_point at) {
  if (is_idle_) close();
  deadline_ = std::min(deadline_, at);
}

void Session::on_head(beast::error_code error) {
  if (error) return on_broken(error);
  lane_.on_request();
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

bool Session::take_room(std::uint64_t bytes) {
  if (bytes <= small_body_bytes) return true;
  if (!lane_.room().take(bytes)) return false;
  room_ = bytes;
  return true;
}

/// Nothing is kept of a request once its answer is known.
void Session::forget_request() {
  request_ = {};
  parser_->get().body() = {};
  lane_.room().give_back(std::exchange(room_, 0));
}

void Session::send_continue() {
  static const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";  // RFC 9110, 10.1.1
  asio::async_write(socket_, asio::buffer(go_on),
                    [self = shared_from_this()](beast::error_code error, std::size_t) {
                      if (!error) self->read_body();
                    });
}

void Session::read_body() {
  beast::http::async_read(socket_, in_, *parser_,
                          [self = shared_from_this()](beast::error_code error, std::size_t) {
                            if (error) return self->on_broken(error);
                            self->answer();
                          });
}

void Session::answer() {
  request_.body = std::move(parser_->get().body());
  Response response = lane_.answer(request_);
  send(std::move(response), parser_->get().keep_alive() && !lane_.is_stopping());
}

void Session::on_broken(beast::error_code broken) {
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

void Session::send(Response&& response, bool keep_alive) {
  forget_request();
  const auto& request = parser_->get();
  out_.emplace(response_of(std::move(response), request.version() == 10 ? 10 : 11, keep_alive));
  if (request.method() == beast::http::verb::head) out_->body().clear();
  allow(lane_.limits().answer_time_max);
  beast::http::async_write(socket_, *out_,
                           [self = shared_from_this(), keep_alive](beast::error_code error, std::size_t) {
                             self->out_.reset();
                             if (error) return;
                             if (!keep_alive) return self->drain();
                             self->lane_.on_answer();
                             self->read_head();
                           });
}

/// Ends our half, and waits until the client has ended its own: it may still be sending what was refused.
void Session::drain() {
  beast::error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  drained_.resize(64 << 10);
  allow(drain_time_max);
  drain_more(0);
}

void Session::drain_more(std::size_t so_far) {
  socket_.async_read_some(asio::buffer(drained_),
                          [self = shared_from_this(), so_far](beast::error_code error, std::size_t size) {
                            if (error || so_far + size > drain_bytes_max) return self->close();
                            self->drain_more(so_far + size);
                          });
}

void Session::close() {
  beast::error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_both, ignored);
  socket_.close(ignored);
}

}  // namespace rivulet::http
