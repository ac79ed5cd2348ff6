#include "link/connection.h"

#include <asio/co_spawn.hpp>
#include <asio/experimental/as_tuple.hpp>
#include <asio/write.hpp>

#include "protocol/documents.h"
#include "storage/memory_disk.h"
#include "tests/transport/fixture.h"

using namespace rivulet;
using asio::ip::tcp;

namespace {

constexpr auto quietly = asio::experimental::as_tuple(asio::use_awaitable);

/// One side's view of a connection: greets as its role does, and remembers what it saw.
class Side final : public ConnectionUser {
 public:
  explicit Side(core::Role role) : role_(role), blobs(make_memory_blob_store(disk_)) {}

  void deliver(Connection& connection, Message message) override {
    if (std::holds_alternative<message::TrustChain>(message))
      connection.send(message::Hello{1, 1, {}, "test"});
    if (std::holds_alternative<message::Hello>(message)) {
      if (refuse) return connection.send(message::Refused{Reason::unknown_key, "not of this fleet"});
      connection.send(message::Welcome{1, {}, 60});
    }
    if (std::holds_alternative<message::Welcome>(message) && !wanted.is_zero())
      connection.fetch(wanted, wanted_bytes);
    delivered.push_back(std::move(message));
  }
  void finish_fetch(Connection& connection, const ContentId& content) override {
    finished = blobs->finish_part(content).has_value();
    connection.close(Reason::none, "done");
  }
  void fetch_failed(Connection&, const ContentId&, Error error) override {
    failures.push_back(std::move(error));
  }
  std::optional<ChunkList> chunk_list(const ContentId& content) override {
    auto list = hash_blob(*blobs, content);
    return list ? std::optional(*list) : std::nullopt;
  }
  void count_sent(std::uint64_t bytes) override { sent_bytes += bytes; }
  void count_received(std::uint64_t bytes) override { received_bytes += bytes; }

 private:
  core::Role role_;
  MemoryDisk disk_;

 public:
  std::unique_ptr<BlobStore> blobs;
  core::CreditPool credit{64 << 20};
  VerifiedParts parts;
  Limits limits;
  bool refuse = false;
  ContentId wanted;
  std::uint64_t wanted_bytes = 0;
  bool finished = false;
  std::uint64_t sent_bytes = 0;
  std::uint64_t received_bytes = 0;
  std::vector<Message> delivered;
  std::vector<Error> failures;
};

asio::awaitable<void> serve(Incoming incoming, Side& side) {
  Connection connection(std::move(incoming.stream), core::Role::coordinator, side.limits, side.credit,
                        *side.blobs, side.parts, side);
  const message::TrustChain chain{};
  connection.send(chain);
  co_await connection.run();
}

/// @return why the connection ended.
asio::awaitable<Connection::End> visit(Endpoint endpoint, TlsContext& tls, Side& side) {
  const auto executor = co_await asio::this_coro::executor;
  auto stream = co_await connect(executor, endpoint, tls, deadline_in(std::chrono::seconds(5)));
  if (!stream) {
    const Connection::End none{Reason::none, stream.error().detail};
    co_return none;
  }
  Connection connection(std::move(*stream), core::Role::node, side.limits, side.credit, *side.blobs,
                        side.parts, side);
  co_await connection.run();
  const Connection::End end = connection.end();
  co_return end;
}

/// Forwards one connection after the other, counts what goes to the client, and cuts when told to.
class CuttingProxy {
 public:
  CuttingProxy(asio::io_context& io, Endpoint upstream)
      : io_(io),
        upstream_(std::move(upstream)),
        acceptor_(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
        tasks_(io.get_executor(), [](std::string_view) {}) {
    tasks_.spawn(accept_all());
  }
  /// To be awaited before the end.
  asio::awaitable<void> close() {
    asio::error_code ignored;
    acceptor_.close(ignored);
    for (const auto& pair : pairs_) close(*pair);
    co_await tasks_.close();
  }
  [[nodiscard]] Endpoint endpoint() const { return {"127.0.0.1", acceptor_.local_endpoint().port()}; }

  std::uint64_t forwarded = 0;  ///< Bytes to the client, of all connections.
  std::uint64_t cut_after = 0;  ///< Of the next connection; 0: never.
  int cuts = 0;

 private:
  struct Pair {
    tcp::socket client;
    tcp::socket server;
    std::uint64_t left;
  };

  asio::awaitable<void> accept_all() {
    while (true) {
      auto [error, socket] = co_await acceptor_.async_accept(quietly);
      if (error) co_return;
      auto pair = std::make_shared<Pair>(std::move(socket), tcp::socket(io_),
                                         cut_after == 0 ? UINT64_MAX : cut_after);
      pair->server.connect(tcp::endpoint(asio::ip::address_v4::loopback(), upstream_.port));
      pairs_.push_back(pair);
      tasks_.spawn(to_server(pair));
      tasks_.spawn(to_client(pair));
    }
  }
  static void close(Pair& pair) {
    asio::error_code ignored;
    pair.client.close(ignored);
    pair.server.close(ignored);
  }
  asio::awaitable<void> to_server(std::shared_ptr<Pair> pair) {
    std::array<char, 16384> buffer;
    while (true) {
      const auto [error, size] = co_await pair->client.async_read_some(asio::buffer(buffer), quietly);
      if (error) break;
      const auto [failed, written] =
          co_await asio::async_write(pair->server, asio::buffer(buffer.data(), size), quietly);
      if (failed) break;
    }
    close(*pair);
  }
  asio::awaitable<void> to_client(std::shared_ptr<Pair> pair) {
    std::array<char, 16384> buffer;
    while (true) {
      const auto [error, size] = co_await pair->server.async_read_some(asio::buffer(buffer), quietly);
      if (error) break;
      const std::size_t part = std::min<std::uint64_t>(size, pair->left);
      const auto [failed, written] =
          co_await asio::async_write(pair->client, asio::buffer(buffer.data(), part), quietly);
      forwarded += written;
      pair->left -= written;
      if (failed) break;
      if (pair->left == 0) {
        ++cuts;
        break;
      }
    }
    close(*pair);
  }

  asio::io_context& io_;
  Endpoint upstream_;
  tcp::acceptor acceptor_;
  std::vector<std::shared_ptr<Pair>> pairs_;
  TaskGroup tasks_;
};

struct Fixture {
  asio::io_context io;
  TlsContext server_tls = context_of(key_of(1));
  TlsContext client_tls = context_of(key_of(2));
  Side server{core::Role::coordinator};
  Side client{core::Role::node};
  std::unique_ptr<Listener> listener;

  Fixture() {
    auto opened = Listener::open(
        io.get_executor(), {"127.0.0.1", 0}, server_tls, {},
        [this](Incoming in) { return serve(std::move(in), server); }, [](std::string_view) {});
    REQUIRE(opened);
    listener = std::move(*opened);
    listener->start();
  }
  ~Fixture() { run(io, listener->close()); }
};

}  // namespace

TEST_CASE("a download of 20 MB that is cut at 50 random bytes costs at most a tenth more", "[link][proxy]") {
  const auto seed = GENERATE(1u, 2u);
  CAPTURE(seed);
  Fixture rig;
  Rng rng(seed);
  Bytes content(20'000'000);
  for (std::size_t i = 0; i + 8 <= content.size(); i += 8) {
    const std::uint64_t word = rng();
    std::memcpy(content.data() + i, &word, 8);
  }
  rig.client.wanted = content_id_of(content);
  rig.client.wanted_bytes = content.size();
  REQUIRE(rig.server.blobs->put(rig.client.wanted, content));
  CuttingProxy proxy(rig.io, rig.listener->local_endpoint());

  while (!rig.client.finished) {
    // Fifty cuts, anywhere: in a handshake, in a chunk list, in a frame.
    proxy.cut_after = proxy.cuts < 50 ? 1 + uniform_below(rng, 2 * content.size() / 52) : 0;
    const auto once = [](Fixture& fixture, Endpoint endpoint) -> asio::awaitable<void> {
      std::ignore = co_await visit(endpoint, fixture.client_tls, fixture.client);
    };
    run(rig.io, once(rig, proxy.endpoint()));
  }
  run(rig.io, proxy.close());
  const auto received = rig.client.blobs->read_all(rig.client.wanted);
  REQUIRE(received);
  CHECK(*received == content);
  const double ratio = static_cast<double>(proxy.forwarded) / static_cast<double>(content.size());
  std::printf("%d cuts, %llu bytes forwarded to the node, %.4f times the content\n", proxy.cuts,
              static_cast<unsigned long long>(proxy.forwarded), ratio);
  CHECK(proxy.cuts >= 45);
  CHECK(ratio <= 1.1);
}

TEST_CASE("a refused peer is told why before the connection closes", "[link]") {
  Fixture rig;
  rig.server.refuse = true;
  const auto once = [](Fixture& fixture) -> asio::awaitable<void> {
    std::ignore = co_await visit(fixture.listener->local_endpoint(), fixture.client_tls, fixture.client);
  };
  run(rig.io, once(rig));
  REQUIRE(rig.client.delivered.size() == 2);
  CHECK(std::get<message::Refused>(rig.client.delivered[1]) ==
        message::Refused{Reason::unknown_key, "not of this fleet"});
}

TEST_CASE("content that the peer may not have is refused without ending the session", "[link]") {
  Fixture rig;
  rig.client.wanted.bytes[0] = std::byte{9};
  rig.client.wanted_bytes = 1000;
  const auto once = [](Fixture& fixture) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    auto stream = co_await connect(executor, fixture.listener->local_endpoint(), fixture.client_tls,
                                   deadline_in(std::chrono::seconds(5)));
    REQUIRE(stream);
    Side& side = fixture.client;
    Connection connection(std::move(*stream), core::Role::node, side.limits, side.credit, *side.blobs,
                          side.parts, side);
    TaskGroup tasks(executor, [](std::string_view) {});
    tasks.spawn(connection.run());
    while (side.failures.empty())
      std::ignore = co_await sleep_until(deadline_in(std::chrono::milliseconds(5)));
    CHECK(connection.open());
    connection.close(Reason::none, "enough");
    co_await tasks.close();
  };
  run(rig.io, once(rig));
  REQUIRE(rig.client.failures.size() == 1);
  CHECK(rig.client.failures[0].code == Errc::not_found);
}
