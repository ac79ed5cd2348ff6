#include "coordinator/core/views.h"
#include "protocol/sha256.h"
#include "tests/catch.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {
namespace {

Digest hash_of(unsigned secret) { return sha256(test_secret(secret).span()); }

std::vector<Effect> enrol(Bench& bench, unsigned node, unsigned secret, FleetId fleet = test_fleet()) {
  return bench.give(event::EnrolReceived{100 + node, node_id(node),
                                         message::Enrol{1, 1, fleet, "test", test_secret(secret)}});
}

Reason refusal_of(const std::vector<Effect>& effects) {
  const auto closed = all_of<effect::Close>(effects);
  return closed.empty() ? Reason::none : closed[0].reason;
}

}  // namespace

TEST_CASE("enrolment, by what key and token are", "[coordinator][enrolment]") {
  Bench bench;
  bench.give(event::CreateToken{1, hash_of(1), bench.now.utc + 1h, 2});

  REQUIRE(sent<message::Enrolled>(enrol(bench, 1, 1)).at(0).name == "meadow");
  REQUIRE(bench.state.fleet.tokens.at(hash_of(1)).used == 1);
  // The answer was lost, the node asks again: nothing more is used up.
  REQUIRE(refusal_of(enrol(bench, 1, 1)) == Reason::none);
  REQUIRE(bench.state.fleet.tokens.at(hash_of(1)).used == 1);
  REQUIRE(refusal_of(enrol(bench, 2, 1)) == Reason::none);
  REQUIRE(refusal_of(enrol(bench, 3, 1)) == Reason::used_token);
  REQUIRE(refusal_of(enrol(bench, 3, 9)) == Reason::unknown_token);
  REQUIRE(refusal_of(enrol(bench, 3, 1, FleetId{})) == Reason::wrong_fleet);

  bench.pass(1h);
  bench.give(event::CreateToken{2, hash_of(2), bench.now.utc + 1h, 1});
  REQUIRE(refusal_of(enrol(bench, 3, 1)) == Reason::expired_token);
  REQUIRE(refusal_of(enrol(bench, 1, 1)) == Reason::none);  // A member may show its old token.
  REQUIRE(refusal_of(enrol(bench, 1, 2)) == Reason::none);  // Another token isn't spent on a member.
  REQUIRE(bench.state.fleet.tokens.at(hash_of(2)).used == 0);

  bench.give(event::RevokeNode{3, node_id(1)});
  REQUIRE(refusal_of(enrol(bench, 1, 1)) == Reason::revoked);
  REQUIRE(refusal_of(enrol(bench, 1, 2)) == Reason::revoked);
  REQUIRE(bench.state.fleet.nodes.size() == 2);

  bench.restart();
  REQUIRE(bench.state.fleet.tokens.at(hash_of(1)).used == 2);
  REQUIRE(refusal_of(enrol(bench, 1, 1)) == Reason::revoked);
  REQUIRE(refusal_of(enrol(bench, 2, 1)) == Reason::none);
  REQUIRE_FALSE(verify_audit(audit_of(bench.records)));
}

TEST_CASE("a token is refused when it could admit nobody", "[coordinator][enrolment]") {
  Bench bench;
  const auto result = [&](Digest hash, UtcTime expires, std::uint32_t uses) {
    return all_of<effect::Reply>(bench.give(event::CreateToken{1, hash, expires, uses})).at(0).result;
  };
  REQUIRE(result(hash_of(1), bench.now.utc + 1h, 0).error().code == Errc::invalid);
  REQUIRE(result(hash_of(1), bench.now.utc, 1).error().code == Errc::invalid);
  REQUIRE(result(hash_of(1), bench.now.utc + 1h, 1).has_value());
  REQUIRE(result(hash_of(1), bench.now.utc + 1h, 1).error().code == Errc::conflict);
}

TEST_CASE("hello is refused with its reason", "[coordinator][sessions]") {
  Bench bench;
  bench.enrol(1);
  bench.enrol(2);
  bench.give(event::RevokeNode{1, node_id(2)});
  const auto hello = [&](unsigned n, message::Hello hello_message) {
    return bench.give(event::HelloReceived{7, node_id(n), std::move(hello_message)});
  };
  REQUIRE(refusal_of(hello(1, {1, 1, FleetId{}, "t"})) == Reason::wrong_fleet);
  REQUIRE(refusal_of(hello(3, {1, 1, test_fleet(), "t"})) == Reason::unknown_key);
  REQUIRE(refusal_of(hello(2, {1, 1, test_fleet(), "t"})) == Reason::revoked);
  const auto newer = hello(1, {2, 4, test_fleet(), "t"});
  REQUIRE(refusal_of(newer) == Reason::unsupported_protocol);
  const std::string detail = all_of<effect::Close>(newer)[0].detail;
  REQUIRE(detail.find("versions 2 to 4") != std::string::npos);
  REQUIRE(detail.find("version 1") != std::string::npos);
  REQUIRE(refusal_of(hello(1, {3, 2, test_fleet(), "t"})) == Reason::unsupported_protocol);
  REQUIRE(refusal_of(hello(1, {0, 0, test_fleet(), "t"})) == Reason::unsupported_protocol);
  const auto welcome = all_of<effect::SendWelcome>(hello(1, {1, 4, test_fleet(), "t"}));
  REQUIRE(welcome.at(0).protocol == 1);
  REQUIRE(welcome.at(0).session == 7);
  REQUIRE(welcome.at(0).heartbeat_seconds == 60);
}

TEST_CASE("the highest version that both speak is chosen, or none", "[coordinator][sessions]") {
  struct Case {
    ProtocolRange node;
    ProtocolRange coordinator;
    std::uint16_t agreed;  ///< 0: none.
  };
  // By hand: the highest number in both ranges.
  for (const auto& [node, coordinator, agreed] : {
           Case{{1, 1}, {1, 1}, 1},
           Case{{1, 1}, {1, 2}, 1},
           Case{{1, 2}, {1, 1}, 1},
           Case{{1, 2}, {1, 2}, 2},
           Case{{1, 3}, {2, 5}, 3},
           Case{{2, 3}, {1, 3}, 3},
           Case{{1, 1}, {2, 3}, 0},
           Case{{2, 3}, {1, 1}, 0},
           Case{{0, 0}, {1, 1}, 0},  // Absent on the wire.
           Case{{0, 1}, {1, 1}, 1},
           Case{{3, 2}, {1, 5}, 0},  // No range at all.
           Case{{0, 65535}, {1, 2}, 2},
           Case{{65535, 65535}, {1, 1}, 0},
       }) {
    CAPTURE(node.min, node.max, coordinator.min, coordinator.max);
    const auto protocol = agree_on_protocol(node, coordinator);
    if (agreed != 0) {
      REQUIRE(protocol == agreed);
    } else {
      REQUIRE(protocol.error().reason == Reason::unsupported_protocol);
    }
  }
  // Who is to be updated is the one that speaks older versions alone.
  REQUIRE(agree_on_protocol({1, 1}, {2, 3}).error().detail ==
          "the node speaks protocol version 1, this coordinator versions 2 to 3: update the node");
  REQUIRE(agree_on_protocol({2, 3}, {1, 1}).error().detail ==
          "the node speaks protocol versions 2 to 3, this coordinator version 1: update the coordinator");
  REQUIRE(agree_on_protocol({0, 0}, {1, 1}).error().detail.ends_with("update the node"));
}

TEST_CASE("a node is found by a unique prefix of its key", "[coordinator][enrolment]") {
  Fleet fleet;
  const auto key = [&](const std::string& digits) {
    const PublicKey id = *PublicKey::from_hex(digits + std::string(64 - digits.size(), '0'));
    fleet.nodes[id].record.key = id;
    return id;
  };
  const PublicKey first = key("aabbccdd11");
  key("aabbccdd22");
  const PublicKey third = key("ffffffffff");
  REQUIRE(resolve_node(fleet, "aabbccdd1") == first);
  REQUIRE(resolve_node(fleet, "FFFFFFFF") == third);
  REQUIRE(resolve_node(fleet, third.hex()) == third);
  REQUIRE(resolve_node(fleet, "aabbccdd").error().code == Errc::conflict);
  REQUIRE(resolve_node(fleet, "00000000").error().code == Errc::not_found);
  REQUIRE(resolve_node(fleet, "aabbccd").error().code == Errc::invalid);
  REQUIRE(resolve_node(fleet, "aabbccdg1").error().code == Errc::invalid);
}

TEST_CASE("with a revoked token nobody joins any more, and who did stays", "[coordinator][enrolment]") {
  Bench bench;
  bench.give(event::CreateToken{1, hash_of(1), bench.now.utc + 1h, 5});
  bench.give(event::CreateToken{2, hash_of(2), bench.now.utc + 2h, 1});
  REQUIRE(refusal_of(enrol(bench, 1, 1)) == Reason::none);
  REQUIRE(refusal_of(enrol(bench, 2, 2)) == Reason::none);
  const auto state_of = [&](unsigned secret) {
    for (const auto& token : tokens_view(bench.state, bench.now)) {
      if (token.at("id") == hash_of(secret).hex()) return token.at("state").get<std::string>();
    }
    return std::string("none");
  };
  REQUIRE(state_of(1) == "valid");
  REQUIRE(state_of(2) == "used");
  bench.pass(1h);
  REQUIRE(state_of(1) == "expired");
  bench.now.utc -= 1h;

  const auto revoke = [&] {
    return all_of<effect::Reply>(bench.give(event::RevokeToken{3, hash_of(1)})).at(0).result;
  };
  REQUIRE(revoke()->at("used") == 1);
  REQUIRE(revoke().error().code == Errc::not_found);
  REQUIRE(state_of(1) == "none");
  bench.restart();
  REQUIRE(state_of(1) == "none");
  REQUIRE(state_of(2) == "used");
  REQUIRE(refusal_of(enrol(bench, 3, 1)) == Reason::unknown_token);
  REQUIRE(refusal_of(enrol(bench, 1, 1)) == Reason::none);
  REQUIRE(bench.state.fleet.nodes.size() == 2);
  REQUIRE(audit_of(bench.records).back().find("token_revoked") != std::string::npos);
  REQUIRE_FALSE(verify_audit(audit_of(bench.records)));
}

}  // namespace rivulet::coordinator::testing
