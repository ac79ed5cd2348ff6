#pragma once

#include <optional>
#include <string>
#include <vector>

#include "node/core/turn.h"
#include "protocol/trust.h"

/// The connection to the coordinator: when to make it, whom to believe, what to say first.
namespace rivulet::node {

/// What to make of a coordinator's trust chain.
struct TrustJudgement {
  std::optional<TrustDocument> document = {};  ///< Accepted, and the peer is the coordinator that it names.
  bool incomplete = false;                     ///< Perhaps the whole chain leads there: ask for it once.
  std::string detail = {};                     ///< Else why not.
};
TrustJudgement judge_trust(const TrustAnchor& anchor, const std::vector<SignedTrust>& chain, UtcTime utc,
                           const PublicKey& peer);

/// Whether new versions and tasks have to wait for a renewed trust document.
bool trust_expired(const State& state, UtcTime utc);

/// The wait before connection attempt `attempts` + 1: backoff_min doubled each time up to backoff_max,
/// and of that a random half to whole.
std::chrono::nanoseconds reconnect_wait(const Config& config, std::uint32_t attempts, Rng& rng);

void connect(Turn& turn);
void on_connected(Turn& turn, const event::Connected& event);
void on_disconnected(Turn& turn, const event::Disconnected& event);
void on_trust_chain(Turn& turn, const message::TrustChain& chain);
/// @return true if the session is online from now on.
bool on_welcome(Turn& turn, const message::Welcome& welcome);
void on_refused(Turn& turn, const message::Refused& refused);
/// Tells the coordinator soon if it would now see the node in another light.
void on_sample_counts(Turn& turn, const event::SampleCounts& counts);
void on_backoff(Turn& turn, const message::Backoff& backoff);
/// Closes the connection without another attempt.
void leave(Turn& turn);

/// Connects when it is time, and gives up waits that took too long; sends telemetry.
void settle_link(Turn& turn);
std::optional<MonotonicTime> link_deadline(const State& state);

}  // namespace rivulet::node
