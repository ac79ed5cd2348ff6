#include "node/core/link.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "node/core/records.h"
#include "protocol/documents.h"
#include "protocol/limits.h"
#include "protocol/text.h"

namespace rivulet::node {
namespace {

using std::chrono::nanoseconds;

/// At least `wait`, and up to a quarter more, so that a fleet told the same doesn't return as one.
nanoseconds spread(nanoseconds wait, Rng& rng) {
  return wait +
         nanoseconds(static_cast<std::int64_t>(static_cast<double>(wait.count()) / 4 * uniform_unit(rng)));
}

void go_offline(Turn& turn, nanoseconds wait) {
  turn.state.link.phase = Offline{turn.now.monotonic + wait};
  turn.state.transfers.issued = false;
}

void go_offline_after_failure(Turn& turn) {
  Link& link = turn.state.link;
  go_offline(turn, reconnect_wait(turn.state.config, link.attempts, turn.state.rng));
  ++link.attempts;
}

void hang_up(Turn& turn, Reason reason, const std::string& detail) {
  turn.emit(effect::Disconnect{turn.state.link.connection, reason, detail});
  turn.notice(Level::warning, "coordinator_given_up",
              {{"reason", std::string(name(reason))}, {"detail", detail}});
  turn.state.link.why = detail;
  go_offline_after_failure(turn);
}

/// Only an operator can mend these: knocking every minute would not.
bool final_refusal(Reason reason) {
  return reason == Reason::unknown_key || reason == Reason::revoked || reason == Reason::quarantined ||
         reason == Reason::wrong_fleet || reason == Reason::unsupported_protocol;
}

/// Proven times only: signed by the coordinator, of our fleet.
Result<UtcTime> open_time(const TrustDocument& document, const Envelope& envelope) {
  if (auto status = verify_envelope(document.coordinator, Context::time, envelope); !status) {
    return std::unexpected(status.error());
  }
  const auto time = decode_signed_time(envelope.payload);
  if (!time) return std::unexpected(time.error());
  if (time->fleet != document.fleet) return fail(Errc::refused, "the signed time is of another fleet");
  return time->utc;
}

void raise_signed_time(Turn& turn, UtcTime utc) {
  Trust& trust = turn.state.trust;
  // Below the expiry: one wrong clock at the coordinator must not make every node distrust it for good.
  const UtcTime bounded = std::min(utc, trust.document->expires - std::chrono::milliseconds(1));
  if (bounded <= trust.signed_time) return;
  trust.signed_time = bounded;
  turn.now.utc = std::max(turn.now.utc, bounded);
  turn.write(meta_record(turn.state));
}

/// Counts that grow while files are read are told together.
constexpr std::chrono::seconds telemetry_soon{1};

/// Another order of magnitude: what decides whether a node is worth asking.
bool differs_much(std::uint64_t before, std::uint64_t after) {
  return after > 2 * before || 2 * after < before;
}

message::Telemetry telemetry(const State& state) {
  const Serving& serving = state.serving;
  const bool serves = serving.active && serving.service != Service::failed;
  return {.serves = serves ? serving.active->manifest.version : 0,
          .samples = state.counts.samples,
          .holdout_samples = state.counts.holdout_samples,
          .inferences = state.counts.inferences,
          .inference_errors = state.counts.inference_errors};
}

}  // namespace

Turn::Turn(State& the_state, Now local) : state(the_state), now(local) {
  now.utc = std::max(now.utc, state.trust.signed_time);
}

TrustJudgement judge_trust(const TrustAnchor& anchor, const std::vector<SignedTrust>& chain, UtcTime utc,
                           const PublicKey& peer) {
  auto followed = follow_trust(anchor, chain, utc);
  if (!followed)
    return {.incomplete = followed.error().code == Errc::not_found, .detail = followed.error().detail};
  if (followed->coordinator != peer) {
    return {.detail = fmt::format("the peer proved key {}, but trust document {} names coordinator {}",
                                  peer.hex().substr(0, 12), followed->version,
                                  followed->coordinator.hex().substr(0, 12))};
  }
  return {.document = std::move(*followed)};
}

bool trust_expired(const State& state, UtcTime utc) {
  return !state.trust.document || state.trust.document->expires <= utc;
}

nanoseconds reconnect_wait(const Config& config, std::uint32_t attempts, Rng& rng) {
  nanoseconds wait = config.backoff_min;
  for (std::uint32_t i = 0; i < attempts && wait < config.backoff_max; ++i) wait *= 2;
  wait = std::min<nanoseconds>(wait, config.backoff_max);
  return wait / 2 +
         nanoseconds(static_cast<std::int64_t>(static_cast<double>(wait.count()) / 2 * uniform_unit(rng)));
}

void connect(Turn& turn) {
  Link& link = turn.state.link;
  link.phase = Connecting{turn.now.monotonic + turn.state.config.connect_timeout};
  turn.emit(effect::Connect{++link.connection});
}

void on_connected(Turn& turn, const event::Connected& event) {
  if (!std::holds_alternative<Connecting>(turn.state.link.phase)) return;
  const MonotonicTime deadline = turn.now.monotonic + turn.state.config.answer_timeout;
  turn.state.link.phase = AwaitingTrust{.peer = event.coordinator, .asked = false, .deadline = deadline};
}

void on_disconnected(Turn& turn, const event::Disconnected& event) {
  if (std::holds_alternative<Offline>(turn.state.link.phase)) return;
  turn.notice(Level::info, "disconnected",
              {{"error", name(event.error.code)}, {"detail", event.error.detail}});
  turn.state.link.why = event.error.detail;
  go_offline_after_failure(turn);
}

void on_trust_chain(Turn& turn, const message::TrustChain& chain) {
  auto* waiting = std::get_if<AwaitingTrust>(&turn.state.link.phase);
  if (waiting == nullptr) return;
  Trust& trust = turn.state.trust;
  TrustJudgement judgement =
      judge_trust({trust.root, trust.document}, chain.documents, turn.now.utc, waiting->peer);
  const MonotonicTime deadline = turn.now.monotonic + turn.state.config.answer_timeout;
  if (judgement.incomplete && !waiting->asked) {
    waiting->asked = true;
    waiting->deadline = deadline;
    turn.send(message::TrustRequest{trust.document ? trust.document->version : 0});
    return;
  }
  if (!judgement.document) return hang_up(turn, Reason::untrusted, judgement.detail);
  if (judgement.document != trust.document) {
    trust.document = std::move(judgement.document);
    trust.root = trust.document->root;
    turn.write(record_of(*trust.document));
    turn.notice(Level::info, "trust_accepted",
                {{"version", fmt::to_string(trust.document->version)},
                 {"expires", to_rfc3339(trust.document->expires)}});
  }
  turn.send(message::Hello{.protocol_min = protocol_version_min,
                           .protocol_max = protocol_version_max,
                           .fleet = trust.document->fleet,
                           .software = turn.state.config.software});
  turn.state.link.phase = AwaitingWelcome{deadline};
}

bool on_welcome(Turn& turn, const message::Welcome& welcome) {
  if (!std::holds_alternative<AwaitingWelcome>(turn.state.link.phase)) return false;
  if (welcome.protocol < protocol_version_min || welcome.protocol > protocol_version_max) {
    hang_up(
        turn, Reason::unsupported_protocol,
        fmt::format("the coordinator chose protocol version {}, which was not offered", welcome.protocol));
    return false;
  }
  const auto time = open_time(*turn.state.trust.document, welcome.time);
  if (!time) {
    hang_up(turn, Reason::untrusted, time.error().detail);
    return false;
  }
  raise_signed_time(turn, *time);
  turn.state.link.attempts = 0;
  turn.state.link.why.clear();
  turn.state.link.phase = Online{.telemetry_at = turn.now.monotonic + turn.state.config.telemetry_interval,
                                 .offered = std::nullopt,
                                 .outcome_told = std::nullopt};
  turn.notice(Level::info, "online");
  return true;
}

/// Whoever is met at the coordinator's address could keep a node away for an hour by such a word.
bool refused_unproven(Turn& turn, Reason reason) {
  const LinkPhase& phase = turn.state.link.phase;
  if (std::holds_alternative<AwaitingWelcome>(phase) || std::holds_alternative<Online>(phase)) return false;
  hang_up(turn, Reason::untrusted,
          fmt::format("the peer refused ({}) before it had proved to be the coordinator", name(reason)));
  return true;
}

void on_refused(Turn& turn, const message::Refused& refused) {
  if (refused_unproven(turn, refused.reason)) return;
  const bool lasting = final_refusal(refused.reason);
  turn.emit(
      effect::Disconnect{turn.state.link.connection, Reason::none, "the coordinator refused the session"});
  turn.notice(lasting ? Level::error : Level::warning, "session_refused",
              {{"reason", std::string(name(refused.reason))}, {"detail", refused.detail}});
  turn.state.link.why = to_printable(refused.detail, detail_bytes_max);
  if (!lasting) return go_offline_after_failure(turn);
  go_offline(turn, spread(turn.state.config.refused_wait, turn.state.rng));
}

void on_sample_counts(Turn& turn, const event::SampleCounts& counts) {
  State& state = turn.state;
  const bool much = differs_much(state.counts.samples, counts.samples) ||
                    differs_much(state.counts.holdout_samples, counts.holdout_samples);
  state.counts.samples = counts.samples;
  state.counts.holdout_samples = counts.holdout_samples;
  auto* session = std::get_if<Online>(&state.link.phase);
  if (much && session != nullptr) {
    session->telemetry_at =
        std::min<MonotonicTime>(session->telemetry_at, turn.now.monotonic + telemetry_soon);
  }
}

void on_backoff(Turn& turn, const message::Backoff& backoff) {
  if (refused_unproven(turn, backoff.reason)) return;
  const Config& config = turn.state.config;
  const auto asked = std::chrono::milliseconds(backoff.retry_after_ms);
  turn.emit(effect::Disconnect{turn.state.link.connection, Reason::none, "the coordinator sheds load"});
  turn.notice(Level::info, "backed_off",
              {{"reason", std::string(name(backoff.reason))},
               {"retry_after_ms", fmt::to_string(backoff.retry_after_ms)}});
  turn.state.link.why = "the coordinator asked to come back later: " + std::string(name(backoff.reason));
  go_offline(turn, spread(std::clamp(asked, config.backoff_min, config.retry_after_max), turn.state.rng));
}

void leave(Turn& turn) {
  if (std::holds_alternative<Offline>(turn.state.link.phase)) return;
  turn.emit(
      effect::Disconnect{turn.state.link.connection, Reason::shutting_down, "the node is shutting down"});
  go_offline(turn, nanoseconds(0));
}

void settle_link(Turn& turn) {
  State& state = turn.state;
  const MonotonicTime now = turn.now.monotonic;
  if (auto* phase = std::get_if<Offline>(&state.link.phase)) {
    if (phase->retry_at <= now) connect(turn);
  } else if (auto* connecting = std::get_if<Connecting>(&state.link.phase)) {
    if (connecting->deadline <= now) hang_up(turn, Reason::handshake_timeout, "no connection in time");
  } else if (auto* trust = std::get_if<AwaitingTrust>(&state.link.phase)) {
    if (trust->deadline <= now) hang_up(turn, Reason::handshake_timeout, "no trust document in time");
  } else if (auto* welcome = std::get_if<AwaitingWelcome>(&state.link.phase)) {
    if (welcome->deadline <= now) hang_up(turn, Reason::handshake_timeout, "no welcome in time");
  } else if (auto* session = std::get_if<Online>(&state.link.phase)) {
    if (session->telemetry_at > now) return;
    session->telemetry_at = now + state.config.telemetry_interval;
    turn.send(telemetry(state));
    // A connection that lived so long has carried what was sent on it before.
    const auto told = session->outcome_told;
    if (told && now - *told >= state.config.telemetry_interval && state.serving.outcome) {
      state.serving.outcome.reset();
      turn.write(meta_record(state));
    }
  }
}

std::optional<MonotonicTime> link_deadline(const State& state) {
  return std::visit(Overloaded{[](const Offline& phase) { return phase.retry_at; },
                               [](const Online& phase) { return phase.telemetry_at; },
                               [](const auto& phase) { return phase.deadline; }},
                    state.link.phase);
}

}  // namespace rivulet::node
