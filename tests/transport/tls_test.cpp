#include <openssl/evp.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <asio/write.hpp>
#include <future>
#include <thread>

#include "tests/transport/fixture.h"
#include "tests/transport/raw_tls.h"

namespace rivulet {
namespace {

using namespace std::chrono_literals;

TEST_CASE("a certificate carries the key of RFC 8032's first test and is signed by it",
          "[transport][certificate]") {
  const auto seed = from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
  const auto expected = from_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  const SecretKey key = SecretKey::from_seed(std::span<const std::byte, 32>(seed->data(), 32));
  const auto identity = TlsIdentity::make(key);
  REQUIRE(identity.has_value());
  const Bytes der = identity->der();
  CHECK(der == TlsIdentity::make(key)->der());

  const auto* data = reinterpret_cast<const unsigned char*>(der.data());
  const std::unique_ptr<X509, decltype(&X509_free)> read(
      d2i_X509(nullptr, &data, static_cast<long>(der.size())), X509_free);
  REQUIRE(read != nullptr);
  EVP_PKEY* const public_key = X509_get0_pubkey(read.get());
  Bytes raw(32);
  std::size_t size = raw.size();
  REQUIRE(EVP_PKEY_get_raw_public_key(public_key, reinterpret_cast<unsigned char*>(raw.data()), &size) == 1);
  CHECK(raw == *expected);
  CHECK(X509_verify(read.get(), public_key) == 1);
  CHECK(ASN1_INTEGER_get(X509_get0_serialNumber(read.get())) == 1);
  std::tm from{};
  std::tm until{};
  REQUIRE(ASN1_TIME_to_tm(X509_get0_notBefore(read.get()), &from) == 1);
  REQUIRE(ASN1_TIME_to_tm(X509_get0_notAfter(read.get()), &until) == 1);
  CHECK(from.tm_year + 1900 == 1970);
  CHECK(until.tm_year + 1900 == 9999);
  char name[64] = {};
  X509_NAME_get_text_by_NID(X509_get_subject_name(read.get()), NID_commonName, name, sizeof name);
  CHECK(std::string(name) == "d75a980182b10ab7");
}

TEST_CASE("after a handshake both sides know each other's key", "[transport][tls]") {
  Connected pair;
  CHECK(pair.server_tls->peer_key() == pair.client_key.public_key());
  CHECK(pair.client_tls->peer_key() == pair.server_key.public_key());
}

/// What a peer of foreign make gets from our listener.
struct Met {
  RawOutcome peer;
  ListenerCounters counters;
  std::size_t accepted = 0;
  std::string report;
};

Met meet(const RawOptions& options) {
  asio::io_context io;
  Server server(io, key_of(1), {});
  std::future<RawOutcome> peer = std::async(std::launch::async, raw_client, server.port(), options);
  run_until(io,
            [&] { return !server.accepted.empty() || server.listener->counters().handshakes_failed > 0; });
  if (!server.accepted.empty()) {
    const Bytes hello(1, std::byte{'x'});
    run(io, [](FrameStream& stream, ByteSpan body) -> asio::awaitable<void> {
      const Status sent = co_await stream.write_frame(body);
      CHECK(sent.has_value());
    }(*server.accepted.front().stream, hello));
  }
  run_until(io, [&] { return peer.wait_for(0s) == std::future_status::ready; });
  return Met{peer.get(), server.listener->counters(), server.accepted.size(),
             server.reports.empty() ? "" : server.reports.front()};
}

void check_refused(const Met& met, const char* reason) {
  CHECK_FALSE(met.peer.accepted);
  CHECK(met.accepted == 0);
  CHECK(met.counters.handshakes_failed == 1);
  CHECK_THAT(met.report, contains(reason));
  CHECK(met.report.find('\n') == std::string::npos);
}

TEST_CASE("a foreign implementation with the right certificate and ALPN is accepted", "[transport][tls]") {
  const Met met = meet({.own = make_raw_certificate(RawKind::ed25519), .extra = {}});
  CAPTURE(met.report, met.peer.reason);
  CHECK(met.peer.accepted);
  CHECK(met.accepted == 1);
}

TEST_CASE("a client of TLS 1.2 is refused", "[transport][tls]") {
  const RawOptions options{.own = make_raw_certificate(RawKind::ed25519), .extra = {}, .tls12_only = true};
  const Met met = meet(options);
  check_refused(met, "unsupported protocol");
  CHECK_THAT(met.peer.reason, contains("protocol version"));
}

TEST_CASE("a client without a certificate is refused and told so", "[transport][tls]") {
  const Met met = meet({});
  check_refused(met, "peer did not return a certificate");
  CHECK_THAT(met.peer.reason, contains("certificate required"));
}

TEST_CASE("a client that names another protocol, or none, is refused", "[transport][tls]") {
  const RawCertificate own = make_raw_certificate(RawKind::ed25519);
  check_refused(meet({.own = own, .extra = {}, .alpn = "h2"}), "no application protocol");
  check_refused(meet({.own = own, .extra = {}, .alpn = "rivulet/10"}), "no application protocol");
  check_refused(meet({.own = own, .extra = {}, .alpn = ""}), "does not speak rivulet/1");
}

TEST_CASE("certificates with RSA and ECDSA keys are refused", "[transport][tls]") {
  const auto kind = GENERATE(RawKind::rsa, RawKind::ecdsa);
  check_refused(meet({.own = make_raw_certificate(kind), .extra = {}}), "peer did not return a certificate");
}

TEST_CASE("a chain of two certificates is refused", "[transport][tls]") {
  const RawOptions options{.own = make_raw_certificate(RawKind::ed25519),
                           .extra = make_raw_certificate(RawKind::ed25519)};
  check_refused(meet(options), "exactly one self-signed Ed25519 certificate");
}

TEST_CASE("a certificate that names another issuer is refused", "[transport][tls]") {
  check_refused(meet({.own = make_raw_certificate(RawKind::ed25519, "someone else"), .extra = {}}),
                "exactly one self-signed Ed25519 certificate");
}

/// What our client makes of a server of foreign make.
Status meet_server(const RawOptions& options) {
  asio::io_context io;
  const TlsContext context = context_of(key_of(2));
  asio::ip::tcp::acceptor acceptor(io, asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const Endpoint endpoint{"127.0.0.1", acceptor.local_endpoint().port()};
  std::future<RawOutcome> peer =
      std::async(std::launch::async, raw_server, acceptor.native_handle(), options);
  Status status;
  run(io,
      [](asio::io_context& io_context, const Endpoint& to, const TlsContext& tls,
         Status& out) -> asio::awaitable<void> {
        const auto stream = co_await connect(io_context.get_executor(), to, tls, deadline_in(20s));
        if (!stream) out = std::unexpected(stream.error());
      }(io, endpoint, context, status));
  CHECK_FALSE(peer.get().accepted);
  return status;
}

TEST_CASE("a client refuses servers with wrong certificates, old TLS or another protocol",
          "[transport][tls]") {
  const RawCertificate good = make_raw_certificate(RawKind::ed25519);
  const RawOptions options[] = {
      {.own = make_raw_certificate(RawKind::rsa), .extra = {}},
      {.own = make_raw_certificate(RawKind::ecdsa), .extra = {}},
      {.own = good, .extra = make_raw_certificate(RawKind::ed25519)},
      {.own = good, .extra = {}, .tls12_only = true},
      {.own = good, .extra = {}},  // A raw server selects no ALPN.
  };
  const char* const reasons[] = {"handshake failure", "handshake failure", "exactly one self-signed",
                                 "protocol version", "does not speak rivulet/1"};
  for (std::size_t row = 0; row < std::size(options); ++row) {
    const Status status = meet_server(options[row]);
    REQUIRE_FALSE(status.has_value());
    CHECK(status.error().code == Errc::refused);
    CHECK_THAT(status.error().detail, Catch::Matchers::StartsWith("cannot connect to 127.0.0.1:"));
    CHECK_THAT(status.error().detail, contains(reasons[row]));
  }
}

TEST_CASE("closing during a read ends it with cancelled and the peer sees a clean end", "[transport][tls]") {
  Connected pair;
  TaskGroup group(pair.io.get_executor(), [](std::string_view) {});
  std::optional<Error> own;
  std::optional<Error> peer;
  const auto read = [](TlsStream& stream, std::optional<Error>& error) -> asio::awaitable<void> {
    std::array<std::byte, 16> into;
    const auto moved = co_await stream.read_some(into);
    if (!moved) error = moved.error();
  };
  group.spawn(read(*pair.server_tls, own));
  group.spawn(read(*pair.client_tls, peer));
  pair.io.restart();
  pair.io.poll();
  CHECK(group.running() == 2);
  run(pair.io, [](Connected& both) -> asio::awaitable<void> {
    co_await both.server_tls->close(50ms);
    co_await both.client_tls->close(50ms);
  }(pair));
  run(pair.io, group.close());
  REQUIRE(own.has_value());
  CHECK(own->code == Errc::cancelled);
  REQUIRE(peer.has_value());
  CHECK(peer->code == Errc::disconnected);
  CHECK_THAT(peer->detail, contains("closed the connection"));
}

TEST_CASE("writing to a peer that reset the connection is an error and raises no signal",
          "[transport][tls]") {
  Connected pair;
  run(pair.io, [](Connected& both) -> asio::awaitable<void> {
    both.client_tls.reset();  // Without a goodbye.
    const Bytes block(1 << 20);
    Status written;
    for (int round = 0; round < 100 && written; ++round) {
      written = co_await both.server_tls->write_all(block, deadline_in(10s));
    }
    REQUIRE_FALSE(written.has_value());
    CHECK(written.error().code == Errc::disconnected);
    const Status again = co_await both.server_tls->write_all(block, deadline_in(10s));
    CHECK(again.error() == written.error());
  }(pair));
}

TEST_CASE("damaged bytes on the wire are refused", "[transport][tls]") {
  asio::io_context io;
  SocketPair sockets(io);
  const TlsContext context = context_of(key_of(1));
  TlsStream stream(std::move(sockets.server), context, TlsRole::server);
  const std::string text = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
  asio::write(sockets.client, asio::buffer(text));
  run(io, [](TlsStream& tls) -> asio::awaitable<void> {
    const Status status = co_await tls.handshake(deadline_in(10s));
    REQUIRE_FALSE(status.has_value());
    CHECK(status.error().code == Errc::refused);
    CHECK_THAT(status.error().detail, contains("http request"));
  }(stream));
}

}  // namespace
}  // namespace rivulet
