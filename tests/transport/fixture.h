#pragma once

#include <array>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "protocol/transport/connector.h"
#include "protocol/transport/listener.h"
#include "tests/catch.h"

namespace rivulet {

/// Catch2 v3 renamed the matcher.
inline auto contains(const std::string& part) {
#if __has_include(<catch2/catch_all.hpp>)
  return Catch::Matchers::ContainsSubstring(part);
#else
  return Catch::Matchers::Contains(part);
#endif
}

/// A seed of 32 equal bytes: keys that differ and are the same in each run.
inline SecretKey key_of(unsigned char number) {
  std::array<std::byte, 32> seed;
  seed.fill(std::byte{number});
  return SecretKey::from_seed(seed);
}

inline TlsContext context_of(const SecretKey& key) {
  auto identity = TlsIdentity::make(key);
  REQUIRE(identity.has_value());
  auto context = TlsContext::make(*identity);
  REQUIRE(context.has_value());
  return std::move(*context);
}

/// Runs `task` to its end; other work of `io` goes on meanwhile. The limit only keeps a broken test from
/// hanging. No CHECK in a task may hold a co_await: its text stands twice in the macro's expansion, and GCC
/// 12 runs both.
inline void run(asio::io_context& io, asio::awaitable<void> task) {
  bool done = false;
  std::exception_ptr thrown;
  asio::co_spawn(io, std::move(task), [&](const std::exception_ptr& exception) {
    thrown = exception;
    done = true;
    io.stop();
  });
  io.restart();
  io.run_for(std::chrono::seconds(60));
  if (thrown) std::rethrow_exception(thrown);
  REQUIRE(done);
}

/// Runs `io` until `condition` holds.
template <typename Condition>
void run_until(asio::io_context& io, Condition condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  io.restart();
  while (!condition()) {
    REQUIRE(std::chrono::steady_clock::now() < limit);
    io.run_one_for(std::chrono::milliseconds(20));
  }
}

/// Two ends of a TCP connection over the loopback device.
struct SocketPair {
  asio::ip::tcp::socket server;
  asio::ip::tcp::socket client;

  explicit SocketPair(asio::io_context& io) : server(io), client(io) {
    const auto loopback = asio::ip::address_v4::loopback();
    asio::ip::tcp::acceptor acceptor(io, asio::ip::tcp::endpoint(loopback, 0));
    client.connect(acceptor.local_endpoint());
    acceptor.accept(server);
  }
};

/// Two parties with a finished handshake between them.
struct Connected {
  asio::io_context io;
  SecretKey server_key = key_of(1);
  SecretKey client_key = key_of(2);
  TlsContext server_context = context_of(server_key);
  TlsContext client_context = context_of(client_key);
  std::unique_ptr<TlsStream> server_tls;
  std::unique_ptr<TlsStream> client_tls;
  std::unique_ptr<FrameStream> server;
  std::unique_ptr<FrameStream> client;

  /// @param server_limits of the server's FrameStream; the client's has the defaults.
  explicit Connected(const TransportLimits& server_limits = {}) {
    SocketPair sockets(io);
    server_tls = std::make_unique<TlsStream>(std::move(sockets.server), server_context, TlsRole::server);
    client_tls = std::make_unique<TlsStream>(std::move(sockets.client), client_context, TlsRole::client);
    TaskGroup group(io.get_executor(), [](std::string_view) {});
    std::vector<Status> statuses;
    group.spawn(shake(*server_tls, statuses));
    group.spawn(shake(*client_tls, statuses));
    run_until(io, [&] { return statuses.size() == 2; });
    run(io, group.close());
    REQUIRE(statuses[0].has_value());
    REQUIRE(statuses[1].has_value());
    limits_ = server_limits;
  }

  /// Both ends from now on as frames.
  void frame() {
    server = std::make_unique<FrameStream>(std::move(server_tls), limits_);
    client = std::make_unique<FrameStream>(std::move(client_tls), TransportLimits());
  }
  /// Only the server's end; the client's can send any bytes.
  void frame_server() { server = std::make_unique<FrameStream>(std::move(server_tls), limits_); }

 private:
  static asio::awaitable<void> shake(TlsStream& stream, std::vector<Status>& statuses) {
    statuses.push_back(co_await stream.handshake(deadline_in(std::chrono::seconds(20))));
  }
  TransportLimits limits_;
};

/// A listener on the loopback device that keeps what it accepted.
struct Server {
  asio::io_context& io;
  TlsContext context;
  std::vector<std::string> reports;
  std::vector<Incoming> accepted;
  std::unique_ptr<Listener> listener;

  Server(asio::io_context& io_context, const SecretKey& key, const Listener::Options& options)
      : io(io_context), context(context_of(key)) {
    auto keep = [this](Incoming incoming) { return hold(this, std::move(incoming)); };
    auto report = [this](std::string_view what) { reports.emplace_back(what); };
    auto opened = Listener::open(io.get_executor(), Endpoint{"127.0.0.1", 0}, context, options, keep, report);
    REQUIRE(opened.has_value());
    listener = std::move(*opened);
    listener->start();
  }
  ~Server() { run(io, listener->close()); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] std::uint16_t port() const { return listener->local_endpoint().port; }

 private:
  static asio::awaitable<void> hold(Server* server, Incoming incoming) {
    server->accepted.push_back(std::move(incoming));
    co_return;
  }
};

}  // namespace rivulet
