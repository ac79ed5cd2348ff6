#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstddef>
#include <list>
#include <optional>
#include <string>
#include <thread>

#include "http/body_room.h"
#include "http/busy_poll.h"
#include "http/server.h"

namespace rivulet::http {

class Session;

/// What the lanes of a server have in common; it outlives them.
struct Shared {
  Shared(const Limits& limits_of_server, Service service_of_server);

  const Limits limits;
  const Service service;
  BodyRoom room;
  /// Whether a lane polls: one at a time, so that cores are left for other work.
  std::atomic<bool> is_polled = false;
};

/// One thread and the connections that it serves. Nothing of them is shared with other threads, so that a
/// request wakes one thread and no more; deadlines are looked at now and then in place of a timer for each.
class Lane {
 public:
  explicit Lane(Shared& shared);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  /// From any thread.
  void take(boost::asio::ip::tcp::socket&& socket, const boost::asio::ip::tcp& protocol);
  /// From any thread: ends idle connections now, others once they are answered or too late, and then the
  /// thread.
  void stop();
  [[nodiscard]] std::size_t connections() const { return count_; }
  [[nodiscard]] bool is_busy() const { return is_busy_; }

  // For sessions, on this thread.
  using Place = std::list<Session*>::iterator;
  Place enter(Session* session) { return sessions_.insert(sessions_.end(), session); }
  void leave(Place place);
  [[nodiscard]] const Limits& limits() const { return shared_.limits; }
  BodyRoom& room() { return shared_.room; }
  [[nodiscard]] bool is_stopping() const { return is_stopping_; }
  std::optional<Response> refuse(const Request& head);
  Response answer(const Request& request);
  Response explain(int status, const std::string& detail) { return shared_.service.explain(status, detail); }
  void on_request() { poll_.on_request(std::chrono::steady_clock::now()); }
  void on_answer() { poll_.on_answer(std::chrono::steady_clock::now()); }

 private:
  void run();
  bool poll();
  void admit(const boost::asio::ip::tcp& protocol, boost::asio::ip::tcp::socket::native_handle_type handle);
  void watch();
  void end_if_empty();

  Shared& shared_;
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{io_.get_executor()};
  boost::asio::steady_timer watch_{io_};
  std::list<Session*> sessions_;
  std::atomic<std::size_t> count_ = 0;
  std::atomic<bool> is_busy_ = false;
  bool is_stopping_ = false;
  BusyPoll poll_;
  std::thread thread_;
};

}  // namespace rivulet::http
