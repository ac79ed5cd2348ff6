#include "node/core/enrolment.h"

#include "node/core/records.h"
#include "tests/catch.h"
#include "tests/node_core/fleet.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

namespace {

JoinToken token_of(const Fleet& fleet) {
  JoinToken token;
  token.root = fleet.root.public_key();
  token.fleet = fleet.id;
  token.secret.bytes[2] = std::byte{5};
  return token;
}

const Now now{1h, today};

Event heard(Message message) { return event::MessageReceived{1, std::move(message)}; }

}  // namespace

TEST_CASE("a node shows its secret to the proven coordinator alone, and keeps its document",
          "[node][enrolment]") {
  Fleet fleet;
  const JoinToken token = token_of(fleet);
  Enrolment join(token, "test 1");
  CHECK(join.step(event::Connected{1, fleet.coordinator.public_key()}, now).empty());
  const auto effects = join.step(heard(fleet.chain(2)), now);
  REQUIRE(effects.size() == 1);
  const auto& enrol = std::get<message::Enrol>(std::get<effect::Send>(effects[0]).message);
  CHECK(enrol.secret == token.secret);
  CHECK(enrol.fleet == fleet.id);
  CHECK(std::holds_alternative<Enrolment::Waiting>(join.outcome()));
  REQUIRE(join.step(heard(message::Enrolled{"river"}), now).size() == 1);
  const auto& done = std::get<Enrolment::Done>(join.outcome());
  CHECK(done.fleet_name == "river");
  const Put record = record_of(done.document);
  Config config;
  config.root = token.root;
  CHECK(recover(config, 1, std::span(&record, 1)).value().trust.document == fleet.document(2));
}

TEST_CASE("the secret stays here if trust fails", "[node][enrolment]") {
  Fleet fleet;
  const SecretKey stranger = key_of(9);
  PublicKey peer = fleet.coordinator.public_key();
  TrustDocument document = fleet.document();
  const SecretKey* root = &fleet.root;
  JoinToken token = token_of(fleet);
  SECTION("another coordinator") { peer = stranger.public_key(); }
  SECTION("another root") { root = &stranger; }
  SECTION("expired") { document.expires = today; }
  SECTION("another fleet than the token's") { token.fleet.bytes[3] = std::byte{1}; }
  Enrolment join(token, "test 1");
  (void)join.step(event::Connected{1, peer}, now);
  const auto effects = join.step(heard(message::TrustChain{{sign_trust(document, *root)}}), now);
  REQUIRE(effects.size() == 1);
  CHECK(std::get<effect::Disconnect>(effects[0]).reason == Reason::untrusted);
  CHECK(std::get<Enrolment::Failed>(join.outcome()).reason == Reason::untrusted);
  CHECK(join.step(heard(message::Enrolled{"river"}), now).empty());
  CHECK(std::holds_alternative<Enrolment::Failed>(join.outcome()));
}

TEST_CASE("a token from before a change of root still leads there", "[node][enrolment]") {
  Fleet fleet;
  const SecretKey next_root = key_of(12);
  TrustDocument second = fleet.document(2);
  second.root = next_root.public_key();
  TrustDocument third = second;
  third.version = 3;
  Enrolment join(token_of(fleet), "test 1");
  (void)join.step(event::Connected{1, fleet.coordinator.public_key()}, now);
  const auto asked = join.step(heard(message::TrustChain{{sign_trust(third, next_root)}}), now);
  REQUIRE(asked.size() == 1);
  CHECK(std::holds_alternative<message::TrustRequest>(std::get<effect::Send>(asked[0]).message));
  const auto sent = join.step(
      heard(message::TrustChain{{sign_trust(second, next_root, &fleet.root), sign_trust(third, next_root)}}),
      now);
  REQUIRE(sent.size() == 1);
  CHECK(std::holds_alternative<message::Enrol>(std::get<effect::Send>(sent[0]).message));
}

TEST_CASE("a join that is refused, shed, cut or left waiting says why", "[node][enrolment]") {
  Fleet fleet;
  Enrolment join(token_of(fleet), "test 1");
  (void)join.step(event::Connected{1, fleet.coordinator.public_key()}, now);
  (void)join.step(heard(fleet.chain()), now);
  Reason reason = Reason::none;
  Errc code = Errc::disconnected;
  SECTION("refused") {
    (void)join.step(heard(message::Refused{Reason::used_token, "two uses"}), now);
    reason = Reason::used_token;
    code = Errc::refused;
  }
  SECTION("shed") {
    (void)join.step(heard(message::Backoff{Reason::overloaded, 1'500}), now);
    reason = Reason::overloaded;
    code = Errc::busy;
  }
  SECTION("cut") { (void)join.step(event::Disconnected{1, {Errc::disconnected, "gone"}}, now); }
  SECTION("left waiting") {
    const MonotonicTime due = join.next_deadline().value();
    CHECK(due == 1h + 15s);
    CHECK(join.step(event::Tick{}, {due - 1ns, today}).empty());
    (void)join.step(event::Tick{}, {due, today});
    reason = Reason::handshake_timeout;
    code = Errc::timeout;
  }
  const auto& failed = std::get<Enrolment::Failed>(join.outcome());
  CHECK(failed.reason == reason);
  CHECK(failed.error.code == code);
  CHECK_FALSE(failed.error.detail.empty());
}
