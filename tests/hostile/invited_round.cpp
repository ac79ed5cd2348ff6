#include "tests/hostile/invited_round.h"

namespace rivulet {

Bytes encoded(Codec codec, const std::vector<float>& delta) {
  Rng rng(1);
  return encode(codec, delta, rng).value();
}

InvitedRound::InvitedRound(std::uint32_t cohort, std::uint32_t goal, Codec codec)
    : world([&](coordinator::ConfigFile& config) {
        config.core.round.cohort = cohort;
        config.core.round.goal = goal;
        config.core.round.updates_min = 1;
        config.core.delta.codec = codec;
      }) {
  world.import();
  for (std::uint32_t i = 0; i < cohort; ++i) {
    nodes.push_back(world.member());
    peers.push_back(nodes.back().get());
  }
  tasks = world.round(peers);
}

UpdateHeader InvitedRound::header(std::size_t i, ByteSpan content, std::uint64_t samples) {
  UpdateHeader made = peer(i).header_for(tasks.at(i), content, samples);
  made.parameter_count = entries;
  return made;
}

void refused(Peer& peer, Reason reason) {
  const auto receipt = peer.await<message::Receipt>();
  CHECK(receipt.outcome == message::ReceiptOutcome::refused);
  CHECK(name(receipt.reason) == name(reason));
  CHECK_FALSE(receipt.detail.empty());
  CHECK_FALSE(peer.ended);
}

void accepted(Peer& peer) {
  const auto receipt = peer.await<message::Receipt>();
  INFO(name(receipt.reason) << ": " << receipt.detail);
  CHECK(receipt.outcome == message::ReceiptOutcome::accepted);
}

}  // namespace rivulet
