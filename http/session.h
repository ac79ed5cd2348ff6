#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "http/lane.h"

namespace rivulet::http {

/// One connection; on its lane's thread. It lives as long as one of its operations is under way.
class Session : public std::enable_shared_from_this<Session> {
 public:
  using Clock = std::chrono::steady_clock;

  Session(boost::asio::ip::tcp::socket socket, Lane& lane);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void read_head();
  void end_if_late(Clock::time_point now);
  /// At once if no request is under way.
  void end_soon(Clock::time_point at);

 private:
  using ErrorCode = boost::beast::error_code;

  void allow(Clock::duration time) { deadline_ = Clock::now() + time; }
  void on_head(ErrorCode error);
  bool take_room(std::uint64_t bytes);
  void forget_request();
  void send_continue();
  void read_body();
  void answer();
  void on_broken(ErrorCode broken);
  void send(Response&& response, bool keep_alive);
  void drain();
  void drain_more(std::size_t so_far);
  void close();

  boost::asio::ip::tcp::socket socket_;
  Lane& lane_;
  Lane::Place place_;
  Clock::time_point deadline_;
  boost::beast::flat_buffer in_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  Request request_;
  std::uint64_t room_ = 0;  // of the server's BodyRoom
  std::optional<boost::beast::http::response<boost::beast::http::string_body>> out_;
  std::vector<char> drained_;
  bool is_idle_ = false;
};

}  // namespace rivulet::http
