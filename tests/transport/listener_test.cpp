#include "protocol/transport/listener.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "tests/transport/fixture.h"

namespace rivulet {
namespace {

using namespace std::chrono_literals;

using Stream = std::unique_ptr<FrameStream>;

asio::awaitable<void> connect_into(asio::any_io_executor executor, std::uint16_t port, const TlsContext& tls,
                                   Result<Stream>& out) {
  const Endpoint endpoint{"127.0.0.1", port};
  out = co_await connect(executor, endpoint, tls, deadline_in(10s));
}

TEST_CASE("a connector and a listener exchange frames and know each other's key", "[transport][listener]") {
  asio::io_context io;
  Server server(io, key_of(1), {});
  const TlsContext tls = context_of(key_of(2));
  Result<Stream> client;
  run(io, connect_into(io.get_executor(), server.port(), tls, client));
  REQUIRE(client.has_value());
  run_until(io, [&] { return server.accepted.size() == 1; });
  CHECK((*client)->peer_key() == key_of(1).public_key());
  CHECK(server.accepted[0].stream->peer_key() == key_of(2).public_key());
  CHECK((*client)->remote() == "127.0.0.1:" + std::to_string(server.port()));
  run(io, [](FrameStream& from, FrameStream& to) -> asio::awaitable<void> {
    const ByteSpan text = bytes_of("hello");
    const Status sent = co_await from.write_frame(text);
    CHECK(sent.has_value());
    const Result<Bytes> read = co_await to.read_frame(4096);
    REQUIRE(read.has_value());
    CHECK(text_of(*read) == "hello");
  }(**client, *server.accepted[0].stream));
}

TEST_CASE("a slot is pending until the handler releases it", "[transport][listener]") {
  asio::io_context io;
  Server server(io, key_of(1), {});
  const TlsContext tls = context_of(key_of(2));
  Result<Stream> client;
  run(io, connect_into(io.get_executor(), server.port(), tls, client));
  run_until(io, [&] { return server.accepted.size() == 1; });
  CHECK(server.listener->pending() == 1);
  server.accepted[0].slot.release();
  CHECK(server.listener->pending() == 0);
  server.accepted[0].slot.release();
  CHECK(server.listener->pending() == 0);
}

/// Whether the other side has ended the connection, without waiting for it.
bool has_ended(asio::ip::tcp::socket& socket) {
  char byte;
  std::error_code error;
  socket.non_blocking(true);
  socket.receive(asio::buffer(&byte, 1), 0, error);
  return error && error != asio::error::would_block;
}

std::vector<asio::ip::tcp::socket> connect_raw(asio::io_context& io, std::uint16_t port, int count) {
  std::vector<asio::ip::tcp::socket> sockets;
  for (int index = 0; index < count; ++index) {
    sockets.emplace_back(io);
    sockets.back().connect(asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), port));
  }
  return sockets;
}

auto ended_of(std::vector<asio::ip::tcp::socket>& sockets) {
  return std::count_if(sockets.begin(), sockets.end(), has_ended);
}

TEST_CASE("a peer that is silent in the handshake is dropped at its deadline", "[transport][listener]") {
  asio::io_context io;
  Listener::Options options;
  options.transport.handshake = 80ms;
  options.transport.linger = 10ms;
  Server server(io, key_of(1), options);
  auto silent = connect_raw(io, server.port(), 1);
  const auto started = std::chrono::steady_clock::now();
  run_until(io, [&] { return has_ended(silent[0]); });
  const auto took = std::chrono::steady_clock::now() - started;
  CHECK(took >= 70ms);
  CHECK(took < 5s);
  CHECK(server.listener->counters().handshakes_failed == 1);
  run_until(io, [&] { return server.listener->pending() == 0; });
  CHECK_THAT(server.reports.at(0), contains("took too long"));
}

TEST_CASE("connections beyond the cap on unauthenticated ones are closed at once", "[transport][listener]") {
  asio::io_context io;
  Listener::Options options;
  options.listener.pending_max = 5;
  Server server(io, key_of(1), options);
  auto sockets = connect_raw(io, server.port(), 8);
  run_until(io, [&] { return server.listener->counters().over_total == 3; });
  run_until(io, [&] { return ended_of(sockets) == 3; });
  CHECK(server.listener->counters().accepted == 5);
  CHECK(server.listener->counters().over_network == 0);
  CHECK(server.listener->pending() == 5);

  sockets.clear();  // Their places become free.
  run_until(io, [&] { return server.listener->pending() == 0; });
  auto more = connect_raw(io, server.port(), 1);
  run_until(io, [&] { return server.listener->counters().accepted == 6; });
}

TEST_CASE("connections beyond the bound on all that are open are closed at once", "[transport][listener]") {
  asio::io_context io;
  const TlsContext context = context_of(key_of(1));
  const TlsContext client_context = context_of(key_of(2));
  int members = 0;
  auto handler = [&members](Incoming incoming) {
    return [](Incoming own, int& count) -> asio::awaitable<void> {
      own.slot.release();
      ++count;
      std::ignore = co_await own.stream->read_frame(4096);
    }(std::move(incoming), members);
  };
  Listener::Options options;
  options.open_max = 3;
  const Endpoint any_port{"127.0.0.1", 0};
  auto opened =
      Listener::open(io.get_executor(), any_port, context, options, handler, [](std::string_view) {});
  REQUIRE(opened.has_value());
  Listener& listener = **opened;
  listener.start();
  Result<Stream> member;
  run(io, connect_into(io.get_executor(), listener.local_endpoint().port, client_context, member));
  REQUIRE(member.has_value());
  run_until(io, [&] { return members == 1; });
  auto sockets = connect_raw(io, listener.local_endpoint().port, 5);
  run_until(io, [&] { return listener.counters().over_open == 3; });
  run_until(io, [&] { return ended_of(sockets) == 3; });
  CHECK(listener.counters().over_total == 0);
  CHECK(listener.pending() == 2);
  CHECK(listener.open() == 3);  // The member counts too.

  sockets.clear();
  run_until(io, [&] { return listener.open() == 1; });
  auto more = connect_raw(io, listener.local_endpoint().port, 2);
  run_until(io, [&] { return listener.open() == 3; });
  CHECK(listener.counters().over_open == 3);
  run(io, listener.close());
}

TEST_CASE("the cap for one network counts for loopback only if asked", "[transport][listener]") {
  asio::io_context io;
  Listener::Options options;
  options.listener.pending_per_network_max = 2;
  options.listener.limit_loopback = GENERATE(true, false);
  Server server(io, key_of(1), options);
  auto sockets = connect_raw(io, server.port(), 4);
  const std::uint64_t expected = options.listener.limit_loopback ? 2 : 4;
  run_until(io, [&] {
    const ListenerCounters& counters = server.listener->counters();
    return counters.accepted + counters.over_network == 4;
  });
  CHECK(server.listener->counters().accepted == expected);
}

TEST_CASE("slots are counted by /24 and /56", "[transport][listener]") {
  ListenerLimits limits;
  limits.pending_max = 6;
  limits.pending_per_network_max = 2;
  const auto slots = std::make_shared<PendingSlots>(limits);
  PendingSlots::Refusal why{};
  std::vector<PendingSlot> held;
  const auto take = [&](const char* address) {
    auto slot = slots->take(asio::ip::make_address(address), why);
    if (slot) held.push_back(std::move(*slot));
    return slot.has_value();
  };
  CHECK(take("192.0.2.1"));
  CHECK(take("192.0.2.255"));
  CHECK_FALSE(take("192.0.2.7"));
  CHECK(why == PendingSlots::Refusal::network);
  CHECK_FALSE(take("::ffff:192.0.2.7"));  // The same network, seen by a dual-stack listener.
  CHECK(take("192.0.3.1"));
  CHECK(take("2001:db8:0:100::1"));
  CHECK(take("2001:db8:0:1ff::1"));
  CHECK_FALSE(take("2001:db8:0:1ab::9"));
  CHECK(why == PendingSlots::Refusal::network);
  CHECK(take("2001:db8:0:200::1"));
  CHECK_FALSE(take("198.51.100.1"));
  CHECK(why == PendingSlots::Refusal::total);
  CHECK(slots->taken() == 6);
  held.erase(held.begin());
  CHECK(take("192.0.2.9"));
  held.clear();
  CHECK(slots->taken() == 0);
}

/// Lowers the limit on open files to those that are open now.
struct NoMoreFiles {
  rlimit before{};
  NoMoreFiles() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const int next = ::fcntl(0, F_DUPFD, 0);  // The lowest free number is the limit.
    REQUIRE(next >= 0);
    ::close(next);
    const rlimit now{static_cast<rlim_t>(next), before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &now) == 0);
  }
  ~NoMoreFiles() { ::setrlimit(RLIMIT_NOFILE, &before); }
};

TEST_CASE("a listener without file descriptors waits, reports and goes on", "[transport][listener]") {
  asio::io_context io;
  Listener::Options options;
  options.listener.accept_backoff = 20ms;
  Server server(io, key_of(1), options);
  asio::ip::tcp::socket client(io, asio::ip::tcp::v4());
  {
    const NoMoreFiles limit;
    client.connect(asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), server.port()));
    run_until(io, [&] { return server.listener->counters().accept_errors >= 2; });
    CHECK(server.listener->counters().accept_errors < 100);
  }
  run_until(io, [&] { return server.listener->counters().accepted == 1; });
  CHECK_THAT(server.reports.at(0), contains("Too many open files"));
}

TEST_CASE("closing a listener ends handshakes and handlers that are under way", "[transport][listener]") {
  asio::io_context io;
  const TlsContext context = context_of(key_of(1));
  const TlsContext client_context = context_of(key_of(2));
  int stopped = 0;
  auto handler = [&stopped](Incoming incoming) {
    return [](Incoming own, int& count) -> asio::awaitable<void> {
      const Result<Bytes> read = co_await own.stream->read_frame(4096);
      if (!read && read.error().code == Errc::cancelled) ++count;
      co_await own.stream->close();
    }(std::move(incoming), stopped);
  };
  const Endpoint any_port{"127.0.0.1", 0};
  auto opened = Listener::open(io.get_executor(), any_port, context, {}, handler, [](std::string_view) {});
  REQUIRE(opened.has_value());
  Listener& listener = **opened;
  listener.start();
  Result<Stream> client;
  run(io, connect_into(io.get_executor(), listener.local_endpoint().port, client_context, client));
  REQUIRE(client.has_value());
  auto silent = connect_raw(io, listener.local_endpoint().port, 3);
  run_until(io, [&] { return listener.counters().accepted == 4; });
  io.restart();
  io.poll();
  run(io, listener.close());
  CHECK(stopped == 1);
  CHECK(listener.pending() == 0);
  CHECK(ended_of(silent) == 3);
}

TEST_CASE("a port that is taken and a host that is not ours are said so", "[transport][listener]") {
  asio::io_context io;
  Server server(io, key_of(1), {});
  const auto open = [&](const Endpoint& endpoint) {
    return Listener::open(io.get_executor(), endpoint, server.context, {}, {}, [](std::string_view) {});
  };
  const auto taken = open(Endpoint{"127.0.0.1", server.port()});
  REQUIRE_FALSE(taken.has_value());
  CHECK(taken.error().code == Errc::conflict);
  CHECK(taken.error().detail ==
        "cannot listen on 127.0.0.1:" + std::to_string(server.port()) + ": Address already in use");
  const auto foreign = open(Endpoint{"192.0.2.1", 0});
  REQUIRE_FALSE(foreign.has_value());
  CHECK(foreign.error().code == Errc::invalid);
}

TEST_CASE("a connector names the endpoint and the cause", "[transport][connector]") {
  asio::io_context io;
  const TlsContext tls = context_of(key_of(2));
  std::uint16_t free_port = 0;
  {
    asio::ip::tcp::acceptor acceptor(io, asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    free_port = acceptor.local_endpoint().port();
  }
  Result<Stream> client;
  run(io, connect_into(io.get_executor(), free_port, tls, client));
  REQUIRE_FALSE(client.has_value());
  CHECK(client.error().code == Errc::disconnected);
  CHECK(client.error().detail ==
        "cannot connect to 127.0.0.1:" + std::to_string(free_port) + ": Connection refused");

  run(io, [](asio::any_io_executor executor, const TlsContext& context) -> asio::awaitable<void> {
    const Endpoint nowhere{"no-such-host.invalid", 1};  // RFC 2606: never exists.
    const Result<Stream> missing = co_await connect(executor, nowhere, context, deadline_in(10s));
    REQUIRE_FALSE(missing.has_value());
    CHECK((missing.error().code == Errc::not_found || missing.error().code == Errc::timeout));
    CHECK_THAT(missing.error().detail,
               Catch::Matchers::StartsWith("cannot connect to no-such-host.invalid:1: "));
  }(io.get_executor(), tls));
}

TEST_CASE("a connector finds a host by its name and gives up on a silent one", "[transport][connector]") {
  asio::io_context io;
  Server server(io, key_of(1), {});
  const TlsContext tls = context_of(key_of(2));
  asio::ip::tcp::acceptor silent(io, asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const Endpoint by_name{"localhost", server.port()};
  const Endpoint by_silence{"127.0.0.1", silent.local_endpoint().port()};
  run(io,
      [](asio::any_io_executor executor, const Endpoint& good, const Endpoint& mute,
         const TlsContext& context) -> asio::awaitable<void> {
        const Result<Stream> found = co_await connect(executor, good, context, deadline_in(10s));
        CHECK(found.has_value());
        const Result<Stream> late = co_await connect(executor, mute, context, deadline_in(50ms));
        REQUIRE_FALSE(late.has_value());
        CHECK(late.error().code == Errc::timeout);
      }(io.get_executor(), by_name, by_silence, tls));
}

}  // namespace
}  // namespace rivulet
