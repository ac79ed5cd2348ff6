#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <future>

#include "coordinator/core/coordinator.h"
#include "coordinator/core/records.h"
#include "link/system_clock.h"
#include "storage/rocksdb_store.h"
#include "tests/hostile/bombs.h"
#include "tests/hostile/world.h"
#include "tests/transport/raw_tls.h"

using namespace rivulet;
using namespace std::chrono_literals;

namespace {

const JoinSecret expired_secret = JoinSecret::from_bytes(Bytes(JoinSecret::size, std::byte{5})).value();

/// A token of yesterday; the API makes none.
void plant_expired_token(const FoundedFleet& fleet) {
  auto store = open_rocksdb_store(fleet.folder / "store", coordinator::families);
  REQUIRE(store.has_value());
  const Digest hash = sha256(expired_secret.span());
  const UtcTime now = system_now().utc;
  const coordinator::TokenRecord token{hash, now - std::chrono::days(2), now - std::chrono::days(1)};
  const Put put{"tokens", copy_of(hash.span()), coordinator::record_bytes(to_json(token))};
  REQUIRE((*store)->commit({put}, Durability::synced).has_value());
}

/// A socket without TLS.
class Raw {
 public:
  explicit Raw(const Endpoint& server) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  ~Raw() { ::close(socket_); }
  Raw(const Raw&) = delete;
  Raw& operator=(const Raw&) = delete;

  void send(ByteSpan bytes) const { std::ignore = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

 private:
  int socket_;
};

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("strangers are refused with a reason, a line in the log and a count, and harm nobody",
          "[hostile]") {
  HostileWorld world({}, plant_expired_token);
  const JoinSecret used_up = new_secret(*world.server, 1);
  const auto first = world.stranger();
  first->dial(world.server->listen);
  first->enrol(world.id, used_up);
  std::ignore = first->await<message::Enrolled>();
  const auto revoked = world.member();
  revoked->hang_up();
  world.server->post_json("/v1/nodes/" + revoked->key.public_key().hex() + "/revoke",
                          nlohmann::json::object());

  using Act = std::function<void(Peer&)>;
  struct Case {
    const char* what;
    Reason reason;
    Act act;
    bool has_revoked_key = false;
  };
  const auto sends = [](Message message) -> Act { return [message](Peer& peer) { peer.send(message); }; };
  const auto writes = [](Bytes bytes) -> Act { return [bytes](Peer& peer) { peer.send_bytes(bytes); }; };
  const FleetId& id = world.id;
  FleetId other = id;
  other.bytes[0] ^= std::byte{1};
  const message::Hello hello{1, 1, id, "hostile"};
  const message::Enrol enrol{1, 1, id, "hostile", {}};
  const Bytes big(4097, std::byte{1});
  const std::vector<Case> cases{
      {"a key that nobody knows", Reason::unknown_key, sends(hello)},
      {"a revoked key", Reason::revoked, sends(hello), true},
      {"a revoked key with a token", Reason::revoked, sends(enrol), true},
      {"another fleet", Reason::wrong_fleet, sends(message::Hello{1, 1, other, "hostile"})},
      {"a token of another fleet", Reason::wrong_fleet, sends(message::Enrol{1, 1, other, "hostile", {}})},
      {"a token that nobody made", Reason::unknown_token, sends(enrol)},
      {"an expired token", Reason::expired_token, sends(message::Enrol{1, 1, id, "hostile", expired_secret})},
      {"a token that is used up", Reason::used_token, sends(message::Enrol{1, 1, id, "hostile", used_up})},
      {"a protocol of the future", Reason::unsupported_protocol, sends(message::Hello{7, 9, id, "hostile"})},
      {"a protocol range upside down", Reason::unsupported_protocol,
       sends(message::Hello{9, 1, id, "hostile"})},
      {"work before hello", Reason::unexpected_message, sends(message::Ready{})},
      {"an offer before hello", Reason::unexpected_message, sends(message::Offer{})},
      {"a fetch before hello", Reason::unexpected_message, sends(message::Fetch{})},
      {"the coordinator's own words", Reason::unexpected_message, sends(message::Welcome{1, {}, 60})},
      {"the chain asked for twice", Reason::unexpected_message,
       [](Peer& peer) {
         peer.send(message::TrustRequest{});
         peer.send(message::TrustRequest{});
       }},
      {"a frame over the limit of strangers", Reason::frame_too_large, writes(frame_of(big))},
      {"a length of 0", Reason::malformed_frame, writes(frame_of(0, {}))},
      {"a length of 2^32 - 1", Reason::frame_too_large, writes(frame_of(0xffffffff, {}))},
      {"a message that ends too early", Reason::malformed_frame,
       writes(frame_of(ByteSpan(encode(Message(hello))).first(40)))},
      {"no message at all", Reason::malformed_frame, writes(frame_of(bytes_of("GET / HTTP/1.1\r\n\r\n")))},
      {"a nesting bomb", Reason::malformed_frame, writes(frame_of(nesting_bomb()))},
      {"a list of 2^29 things without size", Reason::malformed_frame, writes(frame_of(zero_size_bomb()))},
      {"a list that points to one thing 200 times", Reason::malformed_frame,
       writes(frame_of(amplification_bomb(200)))},
      {"a message of many segments", Reason::malformed_frame, writes(frame_of(segment_bomb()))},
  };
  for (const Case& one : cases) {
    CAPTURE(one.what);
    Expected expected = expect_cut_off(world, one.reason);
    const auto fresh = world.stranger();
    Peer& peer = one.has_revoked_key ? *revoked : *fresh;
    peer.dial(world.server->listen);
    std::ignore = peer.await<message::TrustChain>();
    one.act(peer);
    const auto refused = peer.await<message::Refused>();
    CHECK(name(refused.reason) == name(one.reason));
    CHECK_FALSE(refused.detail.empty());
    peer.await_end();
    peer.hang_up();
    expected.check();
  }
  // The two that were let in; none of the others.
  CHECK(world.server->get_json("/v1/nodes").size() == 2);
  world.complete_honest_round();
}

TEST_CASE("who does not speak our TLS does not get in", "[hostile]") {
  HostileWorld world;
  struct Case {
    const char* what;
    RawOptions options;
    const char* reason;
  };
  const RawCertificate good = make_raw_certificate(RawKind::ed25519);
  const std::vector<Case> cases{
      {"TLS 1.2", {.own = good, .extra = {}, .tls12_only = true}, "protocol version"},
      {"no certificate", {}, "certificate required"},
      {"an ECDSA key", {.own = make_raw_certificate(RawKind::ecdsa), .extra = {}}, ""},
      {"an RSA key", {.own = make_raw_certificate(RawKind::rsa), .extra = {}}, ""},
      {"another protocol", {.own = good, .extra = {}, .alpn = "h2"}, "no application protocol"},
  };
  for (const Case& one : cases) {
    CAPTURE(one.what);
    Expected expected(world, "rivulet_handshakes_failed_total", {}, {"no_connection ", "detail="});
    const RawOutcome outcome = raw_client(world.server->listen.port, one.options);
    CHECK_FALSE(outcome.accepted);
    CHECK_THAT(outcome.reason, contains(one.reason));
    expected.check();
  }
  world.complete_honest_round();
}

TEST_CASE("random bytes before TLS, in place of a greeting, and in a session, are shaken off", "[hostile]") {
  constexpr int connections = 200;
  HostileWorld world;
  Rng rng(20);
  const auto node = world.member();
  const std::uint64_t memory = resident_bytes();
  const std::size_t mark = LogLines::mark();
  for (int i = 0; i < connections; ++i) {
    const Raw raw(world.server->listen);
    raw.send(random_content(rng, 1 + uniform_below(rng, 2000)));
  }
  world.await_metric("rivulet_handshakes_failed_total", {}, connections);
  // All are counted; the log does not grow with them, though each cost a stranger nothing.
  const auto handshakes = LogLines::since(mark, {"no_connection "}).size();
  CHECK(handshakes >= 30);
  CHECK(handshakes < 100);

  const auto garbage = [&](int i, std::size_t bytes_max) {
    const Bytes bytes = random_content(rng, 1 + uniform_below(rng, bytes_max));
    return i % 2 == 0 ? frame_of(bytes) : frame_of(0xffffffff, bytes);  // Half of it looks like a frame.
  };
  const auto refused = [&](Peer& peer) {
    const Reason reason = peer.await<message::Refused>().reason;
    CHECK((reason == Reason::malformed_frame || reason == Reason::frame_too_large));
    peer.await_end();
  };
  const auto stranger = world.stranger();
  for (int i = 0; i < connections; ++i) {
    stranger->dial(world.server->listen);
    stranger->send_bytes(garbage(i, 4096));
    refused(*stranger);
  }
  const auto cut_off = LogLines::since(mark, {"connection_cut_off "}).size();
  CHECK(cut_off >= 30);
  CHECK(cut_off < 100);
  for (int i = 0; i < connections; ++i) {
    node->dial(world.server->listen);
    node->hello(world.id);
    std::ignore = node->await<message::Welcome>();
    node->send_bytes(garbage(i, 10'000));
    refused(*node);
  }
  node->hang_up();
  stranger->hang_up();
  world.await_metric("rivulet_refusals_total", {"reason=\"malformed_frame\""}, connections);
  world.await_metric("rivulet_refusals_total", {"reason=\"frame_too_large\""}, connections);
  run_until(world.io, [&] { return world.metric("rivulet_connections") == 0; });
  CHECK(world.metric("rivulet_connections_unauthenticated") == 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(resident_bytes() < memory + (32 << 20));
#endif
  INFO("before: " << memory);
  world.complete_honest_round();
}

TEST_CASE("a stranger that is silent or slow has a moment, and no more", "[hostile]") {
  HostileWorld world([](coordinator::ConfigFile& config) {
    config.server.limits.handshake_timeout = 200ms;
    config.server.limits.hello_timeout = 200ms;
  });
  SECTION("before TLS") {
    Expected expected(world, "rivulet_handshakes_failed_total", {}, {"no_connection ", "detail="});
    const Raw silent(world.server->listen);
    expected.check();
  }
  SECTION("in the middle of the handshake") {
    Expected expected(world, "rivulet_handshakes_failed_total", {}, {"no_connection ", "detail="});
    const Raw slow(world.server->listen);
    slow.send(from_hex("1603010200").value());  // The head of a record that does not come.
    expected.check();
  }
  SECTION("instead of hello") {
    Expected expected = expect_cut_off(world, Reason::handshake_timeout);
    const auto peer = world.stranger();
    peer->dial(world.server->listen);
    CHECK(peer->await<message::Refused>().reason == Reason::handshake_timeout);
    expected.check();
  }
  SECTION("in the middle of hello, a byte at a time") {
    Expected expected = expect_cut_off(world, Reason::handshake_timeout);
    const auto peer = world.stranger();
    peer->dial(world.server->listen);
    peer->send_bytes(frame_of(4096, {}));
    asio::steady_timer pace(world.io);
    std::function<void()> drip = [&] {
      pace.expires_after(20ms);
      pace.async_wait([&](const std::error_code& error) {
        if (error || peer->ended) return;
        peer->send_bytes(Bytes(1));
        drip();
      });
    };
    drip();
    CHECK(peer->await<message::Refused>().reason == Reason::handshake_timeout);
    peer->await_end();
    pace.cancel();
    expected.check();
    peer->hang_up();
  }
  run_until(world.io, [&] { return world.metric("rivulet_connections_unauthenticated") == 0; });
}
