#include "coordinator/server/bounded_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "tests/catch.h"

using namespace rivulet::coordinator;
using namespace std::chrono_literals;

namespace {

/// Answers "/" with a text of its own, on a port that the system picks.
class Serving {
 public:
  explicit Serving(const BoundedServer::Limits& limits, std::string text = "hello") : server(limits) {
    server.Get("/", [text](const httplib::Request&, httplib::Response& response) {
      response.set_content(text, "text/plain");
    });
    port = server.bind_to_any_port("127.0.0.1");
    REQUIRE(port > 0);
    thread_ = std::thread([this] { server.listen_after_bind(); });
    while (!server.is_running()) std::this_thread::yield();
  }
  ~Serving() {
    server.stop();
    thread_.join();
  }

  BoundedServer server;
  int port = 0;

 private:
  std::thread thread_;
};

class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int small = 4096;  // So that an answer that is not read does not fit.
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool send(std::string_view text) const {
    return ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  /// All that comes until the other side ends the connection.
  [[nodiscard]] std::string read_all() const {
    std::string text;
    char buffer[4096];
    for (ssize_t got = 1; got > 0;) {
      pollfd wanted{socket_, POLLIN, 0};
      REQUIRE(::poll(&wanted, 1, 30'000) == 1);  // It ends within that time, or the test fails.
      got = ::recv(socket_, buffer, sizeof buffer, 0);
      if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
    }
    return text;
  }
  /// Waits that long for the other side's end, and forgets what it says before.
  [[nodiscard]] bool has_ended(std::chrono::milliseconds most) const {
    pollfd wanted{socket_, POLLIN, 0};
    char buffer[4096];
    return ::poll(&wanted, 1, static_cast<int>(most.count())) == 1 &&
           ::recv(socket_, buffer, sizeof buffer, MSG_DONTWAIT) <= 0;
  }

 private:
  int socket_;
};

constexpr std::string_view request = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";

}  // namespace

TEST_CASE("a request that drips in has its time, and no more with every byte", "[coordinator][admin]") {
  Serving serving({.threads = 1, .silence = 10s, .patience = 300ms});
  const Client slow(serving.port);
  REQUIRE(slow.send("GET / HTTP/1.1\r\n"));
  const Client other(serving.port);
  REQUIRE(other.send(request));
  const auto begun = std::chrono::steady_clock::now();
  while (!slow.has_ended(20ms)) {
    REQUIRE(std::chrono::steady_clock::now() - begun < 20s);
    std::ignore = slow.send("a");  // It may have ended in the meantime.
  }
  // The only thread is free again.
  CHECK(other.read_all().find("hello") != std::string::npos);
}

TEST_CASE("a large body in good speed has more time than a small one", "[coordinator][admin]") {
  Allowance allowance(10s, 16 * 1024);
  const Allowance::Clock::time_point begun(1h);
  CHECK(allowance.left(begun, 5s) == 5s);
  CHECK(allowance.left(begun + 7s, 5s) == 3s);
  CHECK(allowance.left(begun + 10s - 1ns, 5s) == 1ms);  // Never 0 before it is used up.
  CHECK(allowance.left(begun + 10s, 5s) == 0ms);
  allowance.count(8 * 1024);
  CHECK(allowance.left(begun + 10s, 5s) == 500ms);
  // 64 MiB at 100 KiB/s take 655 s; all of that time they have more than they need.
  std::uint64_t arrived = 8 * 1024;
  for (int second = 1; arrived < 64 << 20; ++second) {
    allowance.count(100 * 1024);
    arrived += 100 * 1024;
    REQUIRE(allowance.left(begun + std::chrono::seconds(second), 5s) == 5s);
  }
  // Who stops then is waited for as long as the silence allows, and a drip does not begin it anew.
  CHECK(allowance.left(begun + 2h, 5s) == 0ms);
}

TEST_CASE("an answer that is not taken does not hold a thread", "[coordinator][admin]") {
  Serving serving({.threads = 1, .silence = 200ms, .patience = 300ms}, std::string(64 << 20, 'x'));
  const Client silent(serving.port);
  REQUIRE(silent.send(request));
  const Client other(serving.port);
  REQUIRE(other.send("GET /nothing HTTP/1.1\r\nHost: here\r\n\r\n"));
  CHECK(other.read_all().starts_with("HTTP/1.1 404 "));
}

TEST_CASE("beyond the connections that may wait, each is turned away at once", "[coordinator][admin]") {
  Serving serving({.threads = 1, .waiting_max = 3, .first_byte = 60s, .silence = 60s, .patience = 60s});
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 4; ++i) silent.push_back(std::make_unique<Client>(serving.port));
  for (int i = 0; i < 20; ++i) {
    const Client more(serving.port);
    const std::string answer = more.read_all();
    CHECK(answer.starts_with("HTTP/1.1 503 "));
    CHECK(answer.ends_with(R"({"error":"busy","detail":"too many connections wait: try later"})"));
  }
  CHECK(serving.server.turned_away() == 20);
  silent.clear();
  for (;;) {  // Their places become free, one after the other.
    const Client again(serving.port);
    REQUIRE(again.send(request));
    if (again.read_all().find("hello") != std::string::npos) break;
  }
}
