#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "models/package/version.h"
#include "protocol/message.h"
#include "protocol/now.h"
#include "protocol/trust.h"

namespace rivulet::coordinator {

/// Names one connection; the driver never uses a number twice.
using SessionId = std::uint64_t;
/// Names one admin call that waits for a Reply.
using RequestId = std::uint64_t;

/// How good a model is on one set of samples.
struct Metrics {
  double accuracy = 0;  ///< Fraction in [0, 1].
  double loss = 0;      ///< Mean per sample.
  std::uint64_t samples = 0;

  bool operator==(const Metrics&) const = default;
};

/// What the driver learned of an update's content, which is durable.
struct UpdateFacts {
  double norm = 0;          ///< L2 over the parameters; finite.
  std::uint64_t bytes = 0;  ///< The length under which it was inspected.

  bool operator==(const UpdateFacts&) const = default;
};

/// What an aggregation made; all contents are durable.
struct CandidateBuilt {
  Envelope manifest;  ///< Signed CandidateManifest.
  SnapshotForm form = SnapshotForm::int8;
  ContentId snapshot;
  std::uint64_t snapshot_bytes = 0;
  Digest weights_hash;
  ContentId master;           ///< The fp32 master after the step.
  ContentId optimizer_state;  ///< Zero if the server optimizer has none.
  double distance = 0;        ///< L2 over the parameters from w_0.

  bool operator==(const CandidateBuilt&) const = default;
};

/// Something that a release allows and that is not published.
struct LeftOut {
  std::string what;  ///< A variant, or its int8 kernels: "int8", "int8 kernels".
  std::string why;
};

/// What the core is told. Session events of a session that was replaced or closed change nothing.
namespace event {

// ---- Sessions. `key` is proven by TLS.
struct HelloReceived {
  SessionId session = 0;
  PublicKey key;
  message::Hello hello;
};
struct EnrolReceived {
  SessionId session = 0;
  PublicKey key;
  message::Enrol enrol;
};
struct ReadyReceived {
  SessionId session = 0;
  message::Ready ready;
};
struct OfferReceived {
  SessionId session = 0;
  Envelope header;
};
struct EvaluationReceived {
  SessionId session = 0;
  Envelope report;
};
struct DeclinedReceived {
  SessionId session = 0;
  message::Declined declined;
};
struct TelemetryReceived {
  SessionId session = 0;
  message::Telemetry telemetry;
};
struct ActivationReceived {
  SessionId session = 0;
  message::Activation activation;
};
struct SessionClosed {
  SessionId session = 0;
};
/// Bytes of content that went to a node, for the running round's account.
struct ContentServed {
  std::uint64_t bytes = 0;
};

// ---- Answers to effect::FetchUpdate
/// The content is durable, well formed and finite.
struct UpdateStored {
  TaskId task;
  ContentId content;
  UpdateFacts facts;
};
/// The content arrived whole and is no good: corrupt_content, bad_scale, not_finite … The driver has
/// not kept it.
struct UpdateRejected {
  TaskId task;
  ContentId content;
  Reason reason = Reason::none;
  std::string detail;
};
/// It did not arrive; the node may offer it again. If it has done so by now, in a newer session, the fetch
/// that came of that goes on.
struct UpdateTransferFailed {
  enum class Cause {
    connection,  ///< It was lost: the node comes back by itself.
    missing,     ///< The node says that it does not have the content, though it offered it.
    here,        ///< Something of ours.
  };
  TaskId task;
  ContentId content;
  std::string detail;
  SessionId session = 0;  ///< That it was to come from; 0: whichever.
  Cause cause = Cause::connection;
};

// ---- Answers to effect::Aggregate, ScoreCandidate, SealVersion. Each carries what names its question.
struct Aggregated {
  RoundNumber round = 0;
  std::uint32_t attempt = 0;
  CandidateBuilt candidate;
};
/// storage_full: rounds pause as with StorageState{full}, and the core asks again when StorageState tells
/// of room. Anything else fails the round.
struct AggregationFailed {
  RoundNumber round = 0;
  std::uint32_t attempt = 0;
  Error error;
};
/// What could not be scored, or has no samples, is absent.
struct CandidateScored {
  RoundNumber round = 0;
  std::uint32_t attempt = 0;
  std::optional<Metrics> parent_central;
  std::optional<Metrics> candidate_central;
  std::optional<Metrics> candidate_test;  ///< Reported, never gates.
};
/// Variants derived, their blobs stored, the manifest signed.
struct VersionSealed {
  VersionManifest manifest;  ///< As asked for, with variants.
  Envelope envelope;
  std::optional<Metrics> metrics;  ///< Of a release's first version, if it was scored.
  std::vector<LeftOut> left_out;
};
/// As AggregationFailed for a round's version; an import is answered with the error.
struct PublicationFailed {
  std::uint64_t manifest_version = 0;
  Error error;
  std::vector<ContentId> stored{};  ///< Variants that had been derived before it failed.
};

// ---- Admin commands; each gets exactly one effect::Reply.
struct CreateToken {
  RequestId request = 0;
  Digest secret_hash;  ///< SHA-256 of the JoinSecret's bytes.
  UtcTime expires;
  std::uint32_t uses = 1;
};
/// Nobody joins with the token any more; who did stays.
struct RevokeToken {
  RequestId request = 0;
  Digest secret_hash;
};
struct RevokeNode {
  RequestId request = 0;
  PublicKey key;
};
struct QuarantineNode {
  RequestId request = 0;
  PublicKey key;
};
/// Ends a quarantine.
struct ReleaseNode {
  RequestId request = 0;
  PublicKey key;
};
struct TagNode {
  RequestId request = 0;
  PublicKey key;
  std::vector<std::string> tags;  ///< Replace the former ones.
};
/// A signed release whose blobs and w_0 are stored. Answered once its first version is sealed.
struct ImportRelease {
  RequestId request = 0;
  Envelope release;           ///< Context::release.
  ContentId release_content;  ///< The envelope as a blob.
  ContentId snapshot;         ///< w of the first version, in the release's form.
  std::uint64_t snapshot_bytes = 0;
  Digest weights_hash;        ///< Of what the snapshot decodes to.
  ContentId master;           ///< fp32.
  ContentId optimizer_state;  ///< Zero if there is none.
  bool has_holdout = false;   ///< The coordinator holds samples that gate.
  bool has_test = false;      ///< … and samples that only report.
  Digest holdout_hash{};      ///< Of these samples, for the record; zero without.
  Digest test_hash{};
};
/// A release that could not be stored, or not all of it: answered with the error.
struct ImportFailed {
  RequestId request = 0;
  Error error;
  std::vector<ContentId> stored;
};
/// Adds `count` rounds to the schedule.
struct StartRounds {
  RequestId request = 0;
  std::uint32_t count = 1;
  bool wait = false;  ///< Reply when the last of them has ended.
};
/// A new trust document, in force at once if the current one leads to it.
struct TrustChanged {
  RequestId request = 0;
  SignedTrust trust;
};

// ---- The world around
/// A deadline passed, or nothing in particular.
struct Tick {};
/// Pauses rounds and turns offers away. `full` ends when there is room again; `failed` only with a restart.
struct StorageState {
  bool full = false;
  bool failed = false;
  bool over_quota = false;  ///< Full by what is kept here, and so by nobody's doing but ours.
};
struct ShuttingDown {};

}  // namespace event

using Event = std::variant<
    event::HelloReceived, event::EnrolReceived, event::ReadyReceived, event::OfferReceived,
    event::EvaluationReceived, event::DeclinedReceived, event::TelemetryReceived, event::ActivationReceived,
    event::SessionClosed, event::ContentServed, event::UpdateStored, event::UpdateRejected,
    event::UpdateTransferFailed, event::Aggregated, event::AggregationFailed, event::CandidateScored,
    event::VersionSealed, event::PublicationFailed, event::CreateToken, event::RevokeToken, event::RevokeNode,
    event::QuarantineNode, event::ReleaseNode, event::TagNode, event::ImportRelease, event::ImportFailed,
    event::StartRounds, event::TrustChanged, event::Tick, event::StorageState, event::ShuttingDown>;

}  // namespace rivulet::coordinator
