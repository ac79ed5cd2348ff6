// Offers of updates that are not what they claim, and what may not follow from one.
#include <cmath>
#include <functional>
#include <limits>

#include "tests/hostile/invited_round.h"

using namespace rivulet;
using nlohmann::json;

TEST_CASE("an offer that claims what is not so is refused before a byte of it is fetched", "[hostile]") {
  InvitedRound round(3, 3, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& liar = round.peer(0);
  const Bytes content = encoded(Codec::fp32, fair);
  const UpdateHeader good = round.header(0, content);

  using Forge = std::function<Envelope(UpdateHeader header)>;
  using Change = std::function<void(UpdateHeader & header)>;
  const auto changed = [&](Change change) -> Forge {
    return [&liar, change](UpdateHeader header) {
      change(header);
      return liar.sealed(header);
    };
  };
  struct Case {
    const char* what;
    Reason reason;
    Forge forge;
  };
  const std::vector<Case> cases{
      {"no signature", Reason::bad_signature,
       [](const UpdateHeader& header) { return Envelope{encode(header), {}}; }},
      {"a bit of the signature flipped", Reason::bad_signature,
       [&](const UpdateHeader& header) {
         Envelope envelope = liar.sealed(header);
         envelope.signature.bytes[10] ^= std::byte{1};
         return envelope;
       }},
      {"a bit of the header flipped", Reason::bad_signature,
       [&](const UpdateHeader& header) {
         Envelope envelope = liar.sealed(header);
         envelope.payload.back() ^= std::byte{1};
         return envelope;
       }},
      {"another's signature", Reason::bad_signature,
       [&](const UpdateHeader& header) { return round.peer(1).sealed(header); }},
      {"signed as a report", Reason::bad_signature,
       [&](const UpdateHeader& header) { return seal(liar.key, Context::evaluation, encode(header)); }},
      {"another's name under its own signature", Reason::bad_signature,
       changed([&](UpdateHeader& header) { header.node = round.peer(1).key.public_key(); })},
      {"no header", Reason::malformed_frame,
       [&](const UpdateHeader&) {
         return seal(liar.key, Context::update, copy_of(bytes_of("a delta, honestly")));
       }},
      {"another fleet", Reason::wrong_fleet,
       changed([](UpdateHeader& header) { header.fleet.bytes[0] ^= std::byte{1}; })},
      {"a task that nobody gave", Reason::unknown_task,
       changed([](UpdateHeader& header) { header.task.bytes[3] ^= std::byte{1}; })},
      {"another's task", Reason::not_your_task,
       changed([&](UpdateHeader& header) { header.task = round.tasks[1].id; })},
      {"an older version", Reason::stale_base,
       changed([](UpdateHeader& header) { header.base_version = 0; })},
      {"other weights of that version", Reason::stale_base,
       changed([](UpdateHeader& header) { header.base_hash.bytes[5] ^= std::byte{1}; })},
      {"another codec", Reason::wrong_layout, changed([](UpdateHeader& header) { header.codec = 1; })},
      {"an unknown codec", Reason::wrong_layout, changed([](UpdateHeader& header) { header.codec = 777; })},
      {"another layout", Reason::wrong_layout,
       changed([](UpdateHeader& header) { header.parameter_count = 10; })},
      {"more parameters than memory", Reason::wrong_layout,
       changed([](UpdateHeader& header) { header.parameter_count = std::uint64_t{1} << 62; })},
      {"no content", Reason::too_large, changed([](UpdateHeader& header) { header.content_bytes = 0; })},
      {"a huge content", Reason::too_large, changed([](UpdateHeader& header) {
         header.content_bytes = std::numeric_limits<std::uint64_t>::max();
       })},
      {"no samples", Reason::bad_sample_count,
       changed([](UpdateHeader& header) { header.sample_count = 0; })},
      {"more samples than are believed", Reason::bad_sample_count,
       changed([](UpdateHeader& header) { header.sample_count = 100'001; })},
      {"all the samples there are", Reason::bad_sample_count, changed([](UpdateHeader& header) {
         header.sample_count = std::numeric_limits<std::uint64_t>::max();
       })},
      {"a loss that is no number", Reason::not_finite,
       changed([](UpdateHeader& header) { header.loss_last = std::nan(""); })},
      {"an infinite loss", Reason::not_finite,
       changed([](UpdateHeader& header) { header.loss_first = INFINITY; })},
  };
  for (const Case& one : cases) {
    CAPTURE(one.what);
    Expected expected = expect_receipt(world, "refused", one.reason);
    liar.heard.clear();
    liar.send(message::Offer{one.forge(good)});
    refused(liar, one.reason);
    CHECK(liar.last<message::Fetch>() == nullptr);
    expected.check();
  }

  // Nothing of it is held against the task itself, and nothing of it counts.
  liar.offer(good, content);
  accepted(liar);
  for (const std::size_t i : {1U, 2U}) {
    round.peer(i).offer(round.tasks[i], std::vector<float>(entries, -1.0F), 10);
    accepted(round.peer(i));
  }
  const std::vector<float> before = world.weights(1);
  const json ended = world.ended_round();
  CHECK(ended.at("state") == "published");
  CHECK(ended.at("accepted") == 3);
  CHECK(ended.at("refused") == cases.size());
  const std::vector<float> after = world.weights(2);
  for (std::size_t i = 0; i < entries; ++i) CHECK(after[i] == Approx(before[i] - 0.5));  // (0.5 - 1 - 1) / 3

  // The round is over: what comes now is late, whoever sends it.
  Expected expected = expect_receipt(world, "duplicate", Reason::duplicate_content);
  UpdateHeader late = good;
  late.content.bytes[0] ^= std::byte{1};
  CHECK(liar.ask<message::Receipt>(message::Offer{liar.sealed(late)}).reason == Reason::duplicate_content);
  expected.check();
}

TEST_CASE("a task takes one update: the same again gets its receipt, another one does not count",
          "[hostile]") {
  InvitedRound round(2, 2, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& node = round.peer(0);
  const UpdateHeader first = node.offer(round.tasks[0], fair, 10);
  accepted(node);
  const Bytes content = encoded(Codec::fp32, std::vector<float>(entries, 7.0F));
  const UpdateHeader second = round.header(0, content);

  const auto twice = [&] {
    Expected expected = expect_receipt(world, "duplicate", Reason::duplicate_content);
    node.offer(second, content);
    const auto receipt = node.await<message::Receipt>();
    CHECK(receipt.outcome == message::ReceiptOutcome::duplicate);
    CHECK(receipt.reason == Reason::duplicate_content);
    CHECK(node.last<message::Fetch>() == nullptr);
    expected.check();
    const auto again = node.ask<message::Receipt>(message::Offer{node.sealed(first)});
    CHECK(again.outcome == message::ReceiptOutcome::accepted);
    CHECK(again.task == first.task);
    CHECK(node.last<message::Fetch>() == nullptr);
  };
  twice();
  round.peer(1).offer(round.tasks[1], fair, 10);
  accepted(round.peer(1));
  const json ended = world.ended_round();
  CHECK(ended.at("accepted") == 2);
  twice();  // When the round is over, too.
  const std::vector<float> before = world.weights(1), after = world.weights(2);
  for (std::size_t i = 0; i < entries; ++i) CHECK(after[i] == Approx(before[i] + 0.5));
  CHECK(world.head() == 2);
}

TEST_CASE("a round does not wait for a content that its node offers and does not have", "[hostile]") {
  InvitedRound round(2, 2, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& liar = round.peer(0);
  const UpdateHeader header = round.header(0, encoded(Codec::fp32, fair));
  liar.send(message::Offer{liar.sealed(header)});  // Its answer to the fetch is NoContent.
  CHECK(liar.await<message::TaskCancelled>().id == round.tasks[0].id);
  CHECK_FALSE(liar.ended);
  round.peer(1).offer(round.tasks[1], fair, 10);
  accepted(round.peer(1));
  const json ended = world.ended_round();  // Its deadline is minutes away.
  CHECK(ended.at("state") == "published");
  CHECK(ended.at("accepted") == 1);
}

TEST_CASE("a node that is revoked in mid-round takes its accepted update with it", "[hostile]") {
  InvitedRound round(3, 3, Codec::fp32);
  HostileWorld& world = round.world;
  Peer& bad = round.peer(2);
  bad.offer(round.tasks[2], std::vector<float>(entries, 30.0F), 10);
  accepted(bad);
  const std::string key = bad.key.public_key().hex();
  const std::size_t mark = LogLines::mark();
  world.server->post_json("/v1/nodes/" + key + "/revoke", json::object());
  CHECK(bad.await<message::Refused>().reason == Reason::revoked);
  bad.await_end();
  world.await_metric("rivulet_refusals_total", {"reason=\"revoked\""}, 1);
  CHECK(LogLines::since(mark, {"node_revoked ", key}).size() == 1);

  Expected expected = expect_cut_off(world, Reason::revoked);
  bad.dial(world.server->listen);
  bad.hello(world.id);
  CHECK(bad.await<message::Refused>().reason == Reason::revoked);
  expected.check();

  const std::vector<float> before = world.weights(1);
  for (const std::size_t i : {0U, 1U}) {
    round.peer(i).offer(round.tasks[i], fair, 10);
    accepted(round.peer(i));
  }
  CHECK(world.ended_round().at("state") == "published");
  const std::vector<float> after = world.weights(2);
  for (std::size_t i = 0; i < entries; ++i) CHECK(after[i] == Approx(before[i] + 0.5));
}
