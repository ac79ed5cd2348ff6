#include "http/server.h"

#include <asio/connect.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>
#include <latch>
#include <stdexcept>
#include <thread>

#include "tests/catch.h"

using namespace rivulet;
using asio::ip::tcp;
using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

namespace {

/// Answers with what it got; "/fail" throws, "/refused" is refused at its head.
http::Service echo() {
  return {.refuse = [](const http::Request& head) -> std::optional<http::Response> {
            if (head.path == "/refused") return http::Response{403, "text/plain", "not here"};
            return std::nullopt;
          },
          .answer =
              [](const http::Request& request) {
                if (request.path == "/fail") throw std::runtime_error("broken");
                return http::Response{
                    200, "text/plain",
                    request.method + " " + request.path + " " + request.query + " " + request.body};
              },
          .explain = [](int status,
                        const std::string& detail) { return http::Response{status, "text/plain", detail}; }};
}

std::unique_ptr<http::Server> start(const http::Limits& limits = {}, http::Service service = echo()) {
  auto server = http::Server::start({"127.0.0.1", 0}, limits, std::move(service));
  REQUIRE(server);
  return std::move(*server);
}

class Client {
 public:
  explicit Client(const http::Server& server) {
    socket_.connect({asio::ip::make_address(server.local_endpoint().host), server.local_endpoint().port});
  }

  void send(const std::string& bytes) { asio::write(socket_, asio::buffer(bytes)); }

  /// The status line and headers; the body is in body(). Empty if the connection ended before.
  std::string receive(bool with_body = true) {
    asio::error_code error;
    const std::size_t size = asio::read_until(socket_, asio::dynamic_buffer(in_), "\r\n\r\n", error);
    if (error) return {};
    std::string head = in_.substr(0, size);
    in_.erase(0, size);
    const std::string key = "Content-Length: ";
    const std::size_t at = head.find(key);
    const std::size_t length =
        with_body && at != std::string::npos ? std::stoul(head.substr(at + key.size())) : 0;
    if (in_.size() < length)
      asio::read(socket_, asio::dynamic_buffer(in_), asio::transfer_exactly(length - in_.size()), error);
    body_ = in_.substr(0, length);
    in_.erase(0, length);
    return head;
  }
  [[nodiscard]] const std::string& body() const { return body_; }

  std::string ask(const std::string& request) {
    send(request);
    return receive();
  }

  /// Waits for the server to end the connection. @return whether nothing came before.
  bool is_ended() {
    asio::error_code error;
    char byte = 0;
    return asio::read(socket_, asio::buffer(&byte, 1), error) == 0;
  }

  void end() { socket_.close(); }

 private:
  asio::io_context io_;
  tcp::socket socket_{io_};
  std::string in_;
  std::string body_;
};

const std::string get = "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n";

std::string post(const std::string& path, const std::string& body) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

}  // namespace

TEST_CASE("a kept connection carries request after request, also sent at once", "[http]") {
  const auto server = start();
  Client client(*server);
  for (int i = 0; i < 2000; ++i) REQUIRE_THAT(client.ask(get), StartsWith("HTTP/1.1 200 OK\r\n"));
  CHECK(client.body() == "GET /a b=c ");
  client.send(post("/x", "first") + post("/y", "second"));
  client.receive();
  CHECK(client.body() == "POST /x  first");
  client.receive();
  CHECK(client.body() == "POST /y  second");
}

TEST_CASE("a body may come in chunks, and an expected 100 is given (RFC 9112, 7.1; RFC 9110, 10.1.1)",
          "[http]") {
  const auto server = start();
  Client client(*server);
  client.ask(
      "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  CHECK(client.body() == "POST /c  abcde");
  client.send("POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  CHECK(client.receive() == "HTTP/1.1 100 Continue\r\n\r\n");
  client.ask("hi");
  CHECK(client.body() == "POST /e  hi");
}

TEST_CASE("HEAD is answered with the length alone, and HTTP/1.0 by an end", "[http]") {
  const auto server = start();
  Client client(*server);
  client.send("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK_THAT(client.receive(false), Contains("Content-Length: 9\r\n"));  // "HEAD /a  "
  CHECK_THAT(client.ask(get), StartsWith("HTTP/1.1 200"));
  Client old(*server);
  CHECK_THAT(old.ask("GET /a HTTP/1.0\r\n\r\n"), StartsWith("HTTP/1.0 200"));
  CHECK(old.is_ended());
}

TEST_CASE("a body over the limit is refused, whether its length is named or not", "[http]") {
  http::Limits limits;
  limits.body_bytes_max = 1000;
  const auto server = start(limits);
  Client fits(*server);
  CHECK_THAT(fits.ask(post("/x", std::string(1000, 'a'))), StartsWith("HTTP/1.1 200"));

  Client named(*server);
  CHECK_THAT(named.ask("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"),
             StartsWith("HTTP/1.1 413"));
  CHECK(named.body() == "the body is larger than 1000 bytes");

  Client chunked(*server);
  std::string chunks = "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 11; ++i) chunks += "64\r\n" + std::string(100, 'a') + "\r\n";
  CHECK_THAT(chunked.ask(chunks), StartsWith("HTTP/1.1 413"));
  CHECK(chunked.is_ended());
}

TEST_CASE("large bodies share their room: whoever finds none is told at the head, and small ones pass",
          "[http]") {
  http::Limits limits;
  limits.body_bytes_max = 1'000'000;
  limits.bodies_bytes_max = 1'500'000;
  const auto server = start(limits);
  const std::string large = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n";
  Client first(*server);
  first.send(large + "Expect: 100-continue\r\n\r\n");
  REQUIRE(first.receive() == "HTTP/1.1 100 Continue\r\n\r\n");

  Client second(*server), chunked(*server), small(*server);
  CHECK_THAT(second.ask(large + "\r\n"), StartsWith("HTTP/1.1 503"));
  CHECK_THAT(second.body(), Contains("try again"));
  CHECK(second.is_ended());
  CHECK_THAT(chunked.ask("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
             StartsWith("HTTP/1.1 503"));
  CHECK_THAT(small.ask(post("/x", std::string(60'000, 'a'))), StartsWith("HTTP/1.1 200"));

  CHECK_THAT(first.ask(std::string(1'000'000, 'a')), StartsWith("HTTP/1.1 200"));
  Client third(*server);  // While the first connection is kept.
  CHECK_THAT(third.ask(post("/x", std::string(1'000'000, 'a'))), StartsWith("HTTP/1.1 200"));

  SECTION("who goes away in the middle leaves the room to others") {
    first.send(large + "\r\nab");
    first.end();
    const auto is_served = [&] {
      return Client(*server).ask(post("/x", std::string(1'000'000, 'a'))).starts_with("HTTP/1.1 200");
    };
    while (!is_served()) std::this_thread::yield();
  }
}

TEST_CASE("one body of the largest always has room", "[http]") {
  http::Limits limits;
  limits.body_bytes_max = 1'000'000;
  limits.bodies_bytes_max = 0;
  const auto server = start(limits);
  Client client(*server);
  for (int i = 0; i < 3; ++i)
    CHECK_THAT(client.ask(post("/x", std::string(1'000'000, 'a'))), StartsWith("HTTP/1.1 200"));
}

TEST_CASE("who is refused at the head reads why, though the body was on its way", "[http]") {
  const auto server = start();
  Client client(*server);
  CHECK_THAT(client.ask(post("/refused", std::string(300'000, 'a'))), StartsWith("HTTP/1.1 403"));
  CHECK(client.body() == "not here");
  CHECK(client.is_ended());
}

TEST_CASE("what is no HTTP is told so, and an exception harms nobody", "[http]") {
  const auto server = start();
  Client wrong(*server);
  CHECK_THAT(wrong.ask("\x16\x03\x01 this is no request\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  CHECK(wrong.is_ended());
  Client long_head(*server);
  CHECK_THAT(long_head.ask("GET / HTTP/1.1\r\nA: " + std::string(10'000, 'a')), StartsWith("HTTP/1.1 431"));
  Client failing(*server);
  CHECK_THAT(failing.ask("GET /fail HTTP/1.1\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 500"));
  CHECK_THAT(failing.ask(get), StartsWith("HTTP/1.1 200"));
}

TEST_CASE("slow clients hold no thread and are cut off", "[http]") {
  http::Limits limits;
  limits.threads = 1;
  limits.body_time_max = std::chrono::milliseconds(200);
  limits.idle_max = std::chrono::milliseconds(200);
  const auto server = start(limits);
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 20; ++i) {
    slow.push_back(std::make_unique<Client>(*server));
    slow.back()->send(i % 2 == 0 ? "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab"
                                 : "GET / HT");
  }
  Client quick(*server);
  CHECK_THAT(quick.ask(get), StartsWith("HTTP/1.1 200"));
  for (const auto& client : slow) CHECK(client->is_ended());
}

TEST_CASE("connections beyond the limit are closed, and there is room again when others end", "[http]") {
  http::Limits limits;
  limits.connections_max = 2;
  const auto server = start(limits);
  Client first(*server), second(*server);
  CHECK_THAT(first.ask(get), StartsWith("HTTP/1.1 200"));
  CHECK_THAT(second.ask(get), StartsWith("HTTP/1.1 200"));
  CHECK(Client(*server).is_ended());
  first.end();
  const auto is_served = [&] {  // Once the server has seen the end.
    Client third(*server);
    try {
      return third.ask(get).starts_with("HTTP/1.1 200");
    } catch (const std::exception&) {
      return false;
    }
  };
  while (!is_served()) std::this_thread::yield();
}

TEST_CASE("who polls for requests answers all of them, side by side, and stops when told", "[http]") {
  http::Limits limits;
  limits.threads = 2;
  limits.busy_poll_max = std::chrono::microseconds(GENERATE(0, 200, 3'600'000'000));
  const auto server = start(limits);
  Client first(*server), second(*server), third(*server);
  for (int i = 0; i < 50; ++i) {
    CHECK_THAT(first.ask(get), StartsWith("HTTP/1.1 200"));
    CHECK_THAT(second.ask(get), StartsWith("HTTP/1.1 200"));
    if (i % 10 == 0) CHECK_THAT(third.ask(post("/fail", "a")), StartsWith("HTTP/1.1 500"));
  }
  server->stop();
  CHECK(first.is_ended());
}

TEST_CASE("a stop lets what is under way be answered and ends idle connections", "[http]") {
  std::latch begun(1), finish(1);
  http::Service service = echo();
  service.answer = [&](const http::Request& request) {
    if (request.path == "/slow") {
      begun.count_down();
      finish.wait();
    }
    return http::Response{200, "text/plain", "done"};
  };
  const auto server = start({}, service);
  Client idle(*server), busy(*server);
  CHECK_THAT(idle.ask(get), StartsWith("HTTP/1.1 200"));
  busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  begun.wait();
  std::thread stopper([&] { server->stop(); });
  CHECK(idle.is_ended());
  finish.count_down();
  busy.receive();
  CHECK(busy.body() == "done");
  busy.end();
  stopper.join();
}

/// Answers with more than any socket's buffers take.
http::Service generous() {
  http::Service service = echo();
  service.answer = [](const http::Request& request) {
    return http::Response{200, "text/plain", std::string(request.path == "/much" ? 64 << 20 : 1, 'a')};
  };
  return service;
}
const std::string much = "GET /much HTTP/1.1\r\nHost: x\r\n\r\n";

TEST_CASE("who does not take an answer is cut off", "[http]") {
  http::Limits limits;
  limits.connections_max = 1;
  limits.answer_time_max = std::chrono::milliseconds(200);
  const auto server = start(limits, generous());
  Client lazy(*server);
  lazy.send(much);
  const auto is_served = [&] {
    Client other(*server);
    try {
      return other.ask(get).starts_with("HTTP/1.1 200");
    } catch (const std::exception&) {
      return false;
    }
  };
  while (!is_served()) std::this_thread::yield();
  CHECK_THAT(lazy.receive(), StartsWith("HTTP/1.1 200"));
  CHECK(lazy.body().size() < 64 << 20);
}

TEST_CASE("a stop waits no longer than it may for a client that does not take its answer", "[http]") {
  http::Limits limits;
  limits.idle_max = std::chrono::milliseconds(500);
  limits.end_time_max = std::chrono::milliseconds(200);
  limits.answer_time_max = std::chrono::minutes(10);
  const auto server = start(limits, generous());
  Client lazy(*server);
  lazy.send(much);
  CHECK_THAT(lazy.receive(false), StartsWith("HTTP/1.1 200"));
  const auto begin = std::chrono::steady_clock::now();
  server->stop();
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::minutes(5));
}

TEST_CASE("a port that is taken, and an address that is none, are told", "[http]") {
  const auto server = start();
  const auto second = http::Server::start(server->local_endpoint(), {}, echo());
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Errc::busy);
  CHECK_THAT(second.error().detail, Contains("Address already in use"));
  const auto nowhere = http::Server::start({"not a host", 1}, {}, echo());
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().code == Errc::invalid);
}
