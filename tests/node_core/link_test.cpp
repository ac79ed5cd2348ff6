#include "node/core/link.h"

#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/node_core/rig.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

namespace {

std::chrono::nanoseconds retry_in(const Rig& rig) {
  return std::get<Offline>(rig.state.link.phase).retry_at - rig.now.monotonic;
}

bool within(std::chrono::nanoseconds wait, std::chrono::nanoseconds least, std::chrono::nanoseconds most) {
  return wait >= least && wait <= most;
}

}  // namespace

TEST_CASE("waits double from one second to sixty, and half of each is chance", "[node][link]") {
  const Config config;
  Rng rng(7);
  const std::vector<std::chrono::seconds> full = {1s, 2s, 4s, 8s, 16s, 32s, 60s, 60s, 60s};
  for (std::uint32_t attempts = 0; attempts < full.size(); ++attempts) {
    std::set<std::int64_t> seen;
    for (int i = 0; i < 200; ++i) {
      const auto wait = reconnect_wait(config, attempts, rng);
      REQUIRE(within(wait, full[attempts] / 2, full[attempts]));
      seen.insert(wait.count());
    }
    CHECK(seen.size() > 190);
  }
  CHECK(within(reconnect_wait(config, 4'000'000'000U, rng), 30s, 60s));
}

TEST_CASE("a node says nothing but hello before it is welcome, then its state", "[node][link]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.boot();
  rig.run();
  REQUIRE(rig.online());
  REQUIRE(rig.sent.size() == 2);
  const auto& hello = std::get<message::Hello>(rig.sent[0]);
  CHECK(hello.fleet == fleet.id);
  CHECK(hello.protocol_min == 1);
  CHECK(hello.software == "test 1");
  CHECK(std::get<message::Ready>(rig.sent[1]) == message::Ready{});
  CHECK(rig.durable.contains({"trust", copy_of(bytes_of("document"))}));
}

TEST_CASE("failed attempts back off until a session is online again", "[node][link]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.answers_connect = false;
  rig.boot();
  rig.run();
  for (const std::chrono::seconds full : {1s, 2s, 4s, 8s, 16s, 32s, 60s, 60s}) {
    rig.lose_connection();
    REQUIRE(within(retry_in(rig), full / 2, full));
    rig.advance(retry_in(rig));
    REQUIRE(std::holds_alternative<Connecting>(rig.state.link.phase));
  }
  rig.lose_connection();
  rig.answers_connect = true;
  rig.advance(60s);
  REQUIRE(rig.online());
  rig.answers_connect = false;
  rig.lose_connection();
  CHECK(within(retry_in(rig), 500ms, 1s));
}

TEST_CASE("an attempt that hangs in any phase is given up", "[node][link]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.answers_connect = false;
  rig.boot();
  rig.run();
  const std::uint64_t connection = rig.state.link.connection;
  SECTION("connecting") { rig.advance(30s); }
  SECTION("waiting for trust") {
    rig.step(event::Connected{connection, fleet.coordinator.public_key()});
    rig.advance(15s);
  }
  SECTION("waiting for the welcome") {
    rig.step(event::Connected{connection, fleet.coordinator.public_key()});
    rig.hear(fleet.chain());
    REQUIRE(rig.sent_of<message::Hello>().size() == 1);
    rig.advance(15s);
  }
  CHECK(rig.done_of<effect::Disconnect>().size() == 1);
  CHECK(std::holds_alternative<Offline>(rig.state.link.phase));
}

TEST_CASE("what an old connection still says is not heard", "[node][link]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.boot();
  rig.run();
  const std::uint64_t old = rig.state.link.connection;
  rig.lose_connection();
  rig.advance(2s);
  REQUIRE(rig.online());
  REQUIRE(rig.state.link.connection == old + 1);
  rig.step(event::MessageReceived{old, message::Refused{Reason::revoked, "late"}});
  rig.step(event::Disconnected{old, {Errc::disconnected, "late"}});
  CHECK(rig.online());
}

TEST_CASE("what a peer says before it has proved to be the coordinator keeps no node away", "[node][link]") {
  const Message words[] = {message::Refused{Reason::revoked, ""},
                           message::Refused{Reason::unsupported_protocol, ""},
                           message::Backoff{Reason::overloaded, 0xffff'ffff}};
  for (const Message& word : words) {
    Fleet fleet;
    Rig rig(fleet);
    rig.answers_connect = false;
    rig.boot();
    rig.run();
    rig.step(event::Connected{rig.state.link.connection, key_of(9).public_key()});
    rig.hear(word);
    REQUIRE(std::holds_alternative<Offline>(rig.state.link.phase));
    CHECK(within(retry_in(rig), 500ms, 1s));
    REQUIRE(rig.done_of<effect::Disconnect>().size() == 1);
    CHECK(rig.done_of<effect::Disconnect>()[0].reason == Reason::untrusted);
    CHECK(rig.noticed("coordinator_given_up"));
    CHECK_FALSE(rig.noticed("session_refused"));
  }
}

TEST_CASE("refusals and requests to back off set the wait", "[node][link]") {
  struct Case {
    Message message;
    std::chrono::nanoseconds least;
    std::chrono::nanoseconds most;
  };
  const Case cases[] = {
      {message::Refused{Reason::unknown_key, ""}, 10min, 13min},
      {message::Refused{Reason::revoked, ""}, 10min, 13min},
      {message::Refused{Reason::wrong_fleet, ""}, 10min, 13min},
      {message::Refused{Reason::unsupported_protocol, ""}, 10min, 13min},
      {message::Refused{Reason::shutting_down, ""}, 500ms, 1s},
      {message::Refused{Reason::replaced, ""}, 500ms, 1s},
      {message::Backoff{Reason::overloaded, 20'000}, 20s, 25s},
      {message::Backoff{Reason::storage_full, 0}, 1s, 1250ms},
      {message::Backoff{Reason::overloaded, 0xffff'ffff}, 1h, 75min},
  };
  for (const Case& one : cases) {
    Fleet fleet;
    Rig rig(fleet);
    rig.boot();
    rig.run();
    rig.answers_connect = false;
    rig.hear(one.message);
    REQUIRE(std::holds_alternative<Offline>(rig.state.link.phase));
    CHECK(rig.done_of<effect::Disconnect>().size() == 1);
    CHECK(within(retry_in(rig), one.least, one.most));
  }
}

TEST_CASE("trust: each attack ends the connection with nothing said", "[node][link][trust]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.trust = fleet.chain(3);
  rig.boot();
  rig.run();
  REQUIRE(rig.state.trust.document->version == 3);
  const SecretKey stranger = key_of(9);
  PublicKey peer = fleet.coordinator.public_key();
  TrustDocument document = fleet.document(4);
  message::TrustChain chain;
  std::string words;
  SECTION("signed by another root that pretends to be ours") {
    chain = {{sign_trust(document, stranger)}};
    words = "not signed by root key";
  }
  SECTION("expired") {
    document.expires = today - 1s;
    chain = {{sign_trust(document, fleet.root)}};
    words = "expired";
  }
  SECTION("rolled back") {
    chain = fleet.chain(2);
    words = "rolled back";
  }
  SECTION("of another fleet") {
    document.fleet.bytes[0] = std::byte{8};
    chain = {{sign_trust(document, fleet.root)}};
    words = "another fleet";
  }
  SECTION("the same version with another coordinator") {
    document.version = 3;
    document.coordinator = stranger.public_key();
    chain = {{sign_trust(document, fleet.root)}};
    words = "two different";
  }
  SECTION("shown by a peer that is not the coordinator") {
    chain = {{sign_trust(document, fleet.root)}};
    peer = stranger.public_key();
    words = "the peer proved key";
  }
  SECTION("empty") { words = "empty"; }
  SECTION("garbage") {
    chain = {{SignedTrust{Bytes(40, std::byte{0xff}), {}}}};
    words = "";
  }
  rig.answers_connect = false;
  rig.lose_connection();
  rig.advance(1s);
  rig.clear();
  const auto before = rig.durable;
  rig.step(event::Connected{rig.state.link.connection, peer});
  rig.hear(chain);
  CHECK(rig.sent.empty());
  REQUIRE(rig.done_of<effect::Disconnect>().size() == 1);
  CHECK(rig.done_of<effect::Disconnect>()[0].reason == Reason::untrusted);
  CHECK(rig.done_of<effect::Disconnect>()[0].detail.find(words) != std::string::npos);
  CHECK(rig.durable == before);
  CHECK(rig.state.trust.document->version == 3);
}

TEST_CASE("a root that changed is followed by the whole chain, which is asked for once",
          "[node][link][trust]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.boot();
  rig.run();
  rig.answers_connect = false;
  rig.lose_connection();
  rig.advance(1s);
  rig.clear();
  const SecretKey next_root = key_of(11);
  TrustDocument second = fleet.document(2);
  second.root = next_root.public_key();
  TrustDocument third = second;
  third.version = 3;
  const SignedTrust to_second = sign_trust(second, next_root, &fleet.root);
  const SignedTrust to_third = sign_trust(third, next_root);
  rig.step(event::Connected{rig.state.link.connection, fleet.coordinator.public_key()});
  rig.hear(message::TrustChain{{to_third}});
  REQUIRE(rig.sent.size() == 1);
  CHECK(std::get<message::TrustRequest>(rig.sent[0]).from_version == 1);
  SECTION("the chain leads there") {
    rig.hear(message::TrustChain{{to_second, to_third}});
    CHECK(rig.sent_of<message::Hello>().size() == 1);
    CHECK(rig.state.trust.document->version == 3);
    CHECK(rig.state.trust.root == next_root.public_key());
    rig.crash();
    rig.boot();
    CHECK(rig.state.trust.root == next_root.public_key());
  }
  SECTION("it does not: no second request") {
    rig.hear(message::TrustChain{{to_third}});
    CHECK(rig.sent.size() == 1);
    CHECK(rig.done_of<effect::Disconnect>().size() == 1);
  }
}

TEST_CASE("a coordinator key that was rotated while the node was offline is met again",
          "[node][link][trust]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.boot();
  rig.run();
  rig.lose_connection();
  fleet.coordinator = key_of(33);
  rig.trust = fleet.chain(2);
  rig.advance(2s);
  CHECK(rig.online());
  CHECK(rig.state.trust.document->coordinator == fleet.coordinator.public_key());
}

TEST_CASE("a node whose clock stands in 1970 takes the coordinator's time, but none past the trust's end",
          "[node][link][time]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.now.utc = UtcTime{};
  rig.boot();
  rig.run();
  REQUIRE(rig.online());
  CHECK(rig.state.trust.signed_time == today);
  CHECK_FALSE(trust_expired(rig.state, rig.state.trust.signed_time));
  SECTION("it survives a restart, and never falls") {
    rig.coordinator_utc = today - 48h;
    rig.crash();
    rig.boot();
    rig.run();
    CHECK(rig.online());
    CHECK(rig.state.trust.signed_time == today);
  }
  SECTION("a far future is cut below the document's expiry, and a renewed document is believed then") {
    rig.coordinator_utc = today + 24h * 10'000;
    rig.lose_connection();
    rig.advance(2s);
    CHECK(rig.state.trust.signed_time == fleet.document().expires - 1ms);
    rig.coordinator_utc = today;  // Its clock was mended: the document is still in force.
    rig.lose_connection();
    rig.advance(2s);
    CHECK(rig.online());
    TrustDocument renewed = fleet.document(2);
    renewed.expires += 24h * 365;
    rig.trust = {{sign_trust(renewed, fleet.root)}};
    rig.coordinator_utc = fleet.document().expires + 1h;
    rig.lose_connection();
    rig.advance(2s);
    CHECK(rig.online());
    CHECK(rig.state.trust.signed_time == rig.coordinator_utc);
  }
  SECTION("time that another key signed, or another fleet's, is refused") {
    rig.answers_connect = false;
    rig.lose_connection();
    rig.advance(1s);
    rig.clear();
    rig.step(event::Connected{rig.state.link.connection, fleet.coordinator.public_key()});
    rig.hear(fleet.chain());
    message::Welcome welcome = fleet.welcome(today + 1h);
    SECTION("key") { welcome.time = seal(key_of(9), Context::time, welcome.time.payload); }
    SECTION("context") { welcome.time = seal(fleet.coordinator, Context::version, welcome.time.payload); }
    SECTION("fleet") {
      welcome.time = seal(fleet.coordinator, Context::time, encode(SignedTime{FleetId{}, today + 1h}));
    }
    rig.hear(welcome);
    CHECK_FALSE(rig.online());
    CHECK(rig.state.trust.signed_time == today);
    CHECK(rig.sent_of<message::Ready>().empty());
  }
}

TEST_CASE("samples that make a node worth asking are told within a second", "[node][link]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.boot();
  rig.run();
  rig.clear();
  rig.step(event::SampleCounts{1000, 200});
  rig.advance(999ms);
  CHECK(rig.sent_of<message::Telemetry>().empty());
  rig.advance(1ms);
  REQUIRE(rig.sent_of<message::Telemetry>().size() == 1);
  CHECK(rig.sent_of<message::Telemetry>()[0].samples == 1000);

  // A few more are nothing new; they go with the next minute's.
  rig.step(event::SampleCounts{1100, 210});
  rig.advance(10s);
  CHECK(rig.sent_of<message::Telemetry>().size() == 1);
}

TEST_CASE("telemetry goes out every minute while online", "[node][link]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.boot();
  rig.run();
  rig.step(event::SampleCounts{120, 30});
  rig.advance(1s);  // New samples are told at once.
  rig.clear();
  rig.step(event::InferenceCounts{9, 1});
  rig.advance(59s);
  CHECK(rig.sent_of<message::Telemetry>().empty());
  rig.advance(2min);
  const auto telemetry = rig.sent_of<message::Telemetry>();
  REQUIRE(telemetry.size() == 2);
  CHECK(telemetry[0] == message::Telemetry{0, 120, 30, 9, 1});
  rig.lose_connection();
  rig.advance(2s);
  CHECK(rig.sent_of<message::Ready>().back().samples == 120);
}

TEST_CASE("shutting down stops the link for good", "[node][link]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.boot();
  rig.run();
  rig.clear();
  rig.step(event::ShuttingDown{});
  REQUIRE(rig.done_of<effect::Disconnect>().size() == 1);
  CHECK(rig.done_of<effect::Disconnect>()[0].reason == Reason::shutting_down);
  CHECK_FALSE(next_deadline(rig.state));
  rig.step(event::Tick{});
  CHECK(rig.done_of<effect::Connect>().empty());
  CHECK(status(rig.state, rig.now).at("link").at("state") == "offline");
}

TEST_CASE("a status says why the last connection is over, until there is one again", "[node][link]") {
  Fleet fleet;
  Rig rig(fleet);
  rig.boot();
  rig.run();
  CHECK_FALSE(status(rig.state, rig.now).at("link").contains("why"));
  rig.step(event::Disconnected{rig.state.link.connection, {Errc::disconnected, "the cable was cut"}});
  CHECK(status(rig.state, rig.now).at("link").at("why") == "the cable was cut");
}
