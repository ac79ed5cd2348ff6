#include "coordinator/server/bounded_server.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

namespace rivulet::coordinator {
namespace {

using Clock = Allowance::Clock;
using std::chrono::milliseconds;

constexpr std::string_view busy_answer =
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json\r\n"
    "Content-Length: 64\r\n\r\n"
    R"({"error":"busy","detail":"too many connections wait: try later"})";

/// Whether the job that this thread runs is to be turned away.
thread_local bool turning_away = false;

bool await(int socket, short event, milliseconds most) {
  const auto end = Clock::now() + most;
  for (;;) {
    pollfd wanted{socket, event, 0};
    const auto left = std::chrono::ceil<milliseconds>(end - Clock::now());
    const int ready = ::poll(&wanted, 1, static_cast<int>(std::max(left, milliseconds(0)).count()));
    if (ready >= 0 || errno != EINTR) return ready > 0;
  }
}

/// The parts of an address, as numbers.
void put_address(const sockaddr_storage& address, socklen_t length, std::string& ip, int& port) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> service{};
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&address), length, host.data(), host.size(),
                    service.data(), service.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return;
  }
  ip = host.data();
  port = std::atoi(service.data());
}

class Connection final : public httplib::Stream {
 public:
  Connection(int socket, const BoundedServer::Limits& limits)
      : socket_(socket),
        limits_(limits),
        request_(limits.patience, limits.bytes_per_second),
        answer_(limits.patience, limits.bytes_per_second) {}

  /// Whether anything comes at all.
  bool begins() { return await(socket_, POLLIN, request_.left(Clock::now(), limits_.first_byte)); }

  bool is_readable() const override { return at_ < end_ || await(socket_, POLLIN, milliseconds(0)); }
  bool is_writable() const override {
    return await(socket_, POLLOUT, answer_.left(Clock::now(), limits_.silence));
  }
  ssize_t read(char* to, std::size_t size) override {
    if (at_ == end_) {
      const ssize_t got = receive();
      if (got <= 0) return got;
      at_ = 0;
      end_ = static_cast<std::size_t>(got);
    }
    const std::size_t part = std::min(size, end_ - at_);
    std::memcpy(to, buffer_.data() + at_, part);
    at_ += part;
    return static_cast<ssize_t>(part);
  }
  ssize_t write(const char* from, std::size_t size) override {
    for (;;) {
      if (!await(socket_, POLLOUT, answer_.left(Clock::now(), limits_.silence))) return -1;
      const ssize_t put = ::send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (put < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (put > 0) answer_.count(static_cast<std::size_t>(put));
      return put;
    }
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (::getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0)
      put_address(address, length, ip, port);
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0)
      put_address(address, length, ip, port);
  }
  socket_t socket() const override { return socket_; }

 private:
  ssize_t receive() {
    for (;;) {
      if (!await(socket_, POLLIN, request_.left(Clock::now(), limits_.silence))) return -1;
      const ssize_t got = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got > 0) request_.count(static_cast<std::size_t>(got));
      return got;
    }
  }

  int socket_;
  const BoundedServer::Limits& limits_;
  Allowance request_;
  mutable Allowance answer_;            // Asking for room begins it.
  std::array<char, 16 * 1024> buffer_;  // The library reads the head byte by byte.
  std::size_t at_ = 0;
  std::size_t end_ = 0;
};

/// The library's pool, but for connections above a bound, which are turned away at once.
class BoundedQueue final : public httplib::TaskQueue {
 public:
  explicit BoundedQueue(const BoundedServer::Limits& limits)
      : open_max_(limits.threads + limits.waiting_max), pool_(limits.threads) {}

  // Newer releases of the library ask for an answer.
  using Enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue({}));
  Enqueued enqueue(std::function<void()> job) override {
    if (open_ >= open_max_) {
      turning_away = true;
      job();
      turning_away = false;
    } else {
      ++open_;
      pool_.enqueue([this, job = std::move(job)] {
        job();
        --open_;
      });
    }
    return static_cast<Enqueued>(true);
  }
  void shutdown() override { pool_.shutdown(); }

 private:
  const std::size_t open_max_;
  std::atomic<std::size_t> open_ = 0;
  httplib::ThreadPool pool_;
};

}  // namespace

milliseconds Allowance::left(Clock::time_point now, milliseconds most) {
  if (!begun_) begun_ = now;
  const milliseconds earned(bytes_ * 1000 / bytes_per_second_);
  return std::clamp(std::chrono::ceil<milliseconds>(*begun_ + patience_ + earned - now), milliseconds(0),
                    most);
}

BoundedServer::BoundedServer(const Limits& limits) : limits_(limits) {
  new_task_queue = [limits] { return new BoundedQueue(limits); };
}

template <typename C>
bool BoundedServer::answer(C& connection) {
  bool closed = false;
  if constexpr (requires { this->process_request(connection, true, closed, nullptr); }) {
    return this->process_request(connection, true, closed, nullptr);
  } else {  // Newer releases of the library ask for the addresses.
    std::string remote, local;
    int remote_port = 0, local_port = 0;
    connection.get_remote_ip_and_port(remote, remote_port);
    connection.get_local_ip_and_port(local, local_port);
    return this->process_request(connection, remote, remote_port, local, local_port, true, closed, nullptr);
  }
}

bool BoundedServer::process_and_close_socket(socket_t socket) {
  bool done = false;
  const bool stopping = svr_sock_ == INVALID_SOCKET;
  if (turning_away || stopping) {
    if (turning_away) ++turned_away_;
    std::ignore = ::send(socket, busy_answer.data(), busy_answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  } else {
    Connection connection(socket, limits_);
    done = connection.begins() && answer(connection);
  }
  ::shutdown(socket, SHUT_RDWR);
  ::close(socket);
  return done;
}

}  // namespace rivulet::coordinator
