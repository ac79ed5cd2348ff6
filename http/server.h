#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "http/request.h"
#include "protocol/endpoint.h"
#include "protocol/result.h"

namespace rivulet::http {

/// What a server puts up with. Whoever is slower, larger or more than this is cut off or refused. Only a
/// request that has arrived whole takes a thread, so that no slow sender holds others up; a request that
/// takes long to answer holds up the other connections of its thread, which wait for it. New connections go
/// to a thread that answers nothing just then, if there is one.
struct Limits {
  std::size_t threads = 8;                 ///< So many requests are handled at a time; at least 1.
  std::size_t connections_max = 256;       ///< Further ones are closed at once.
  std::uint64_t body_bytes_max = 1 << 20;  ///< Of any request, however it says its length.
  /// Of all requests under way together, those of up to 64 KiB aside; one of the largest always has room.
  /// Further ones are refused (503) at their heads. A body in chunks counts as one of the largest.
  std::uint64_t bodies_bytes_max = 64 << 20;
  std::chrono::milliseconds idle_max{
      10'000};  ///< From an answer, or the connection's begin, to a request's head.
  std::chrono::milliseconds body_time_max{30'000};    ///< From the head to the last byte.
  std::chrono::milliseconds answer_time_max{30'000};  ///< Until the client has taken an answer.
  std::chrono::milliseconds end_time_max{3'000};      ///< For what is under way when the server stops.
  /// Behind an answer, one thread at a time polls so long for the next request before it sleeps, as long as
  /// requests have been coming that soon: to wake a halted core may take longer than to answer. 0: never.
  std::chrono::microseconds busy_poll_max{200};
};

/// What to do with requests. Called from several threads at once; an exception is answered with status 500.
struct Service {
  /// Looks at a head before the body is read. An answer refuses: it is sent, the body is not kept, and the
  /// connection ends.
  std::function<std::optional<Response>(const Request& head)> refuse;
  std::function<Response(const Request&)> answer;
  /// The body of an answer that the server itself gives: to what is malformed (400), too large (413, 431),
  /// too much beside others (503), or ended in an exception (500). Who is too slow is cut off without one.
  std::function<Response(int status, const std::string& detail)> explain;
};

/// HTTP/1.1 (RFC 9112) in clear text, with kept connections. @see Beast, which parses and writes.
class Server {
 public:
  /// Listens and answers when it returns. @return invalid if no address is found for `listen`; busy if the
  /// port is taken, reserved, or of another machine; the detail says which. internal if the system has no
  /// thread to give.
  static Result<std::unique_ptr<Server>> start(const Endpoint& listen, const Limits& limits, Service service);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] Endpoint local_endpoint() const;
  /// Takes no more requests, gives clients end_time_max to send and take what is under way, and ends all
  /// threads; an answer that is being made is waited for.
  void stop();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rivulet::http
