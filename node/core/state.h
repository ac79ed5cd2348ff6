#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "models/package/version.h"
#include "node/core/config.h"
#include "protocol/message.h"
#include "protocol/now.h"
#include "protocol/rng.h"
#include "protocol/trust.h"

namespace rivulet::node {

// Offline -> Connecting -> AwaitingTrust -> AwaitingWelcome -> Online; from each of them -> Offline.

struct Offline {
  MonotonicTime retry_at{};
};
struct Connecting {
  MonotonicTime deadline{};
};
/// Nothing is sent before the coordinator is proven, but a request for the whole trust chain.
struct AwaitingTrust {
  PublicKey peer;
  bool asked = false;
  MonotonicTime deadline{};
};
struct AwaitingWelcome {
  MonotonicTime deadline{};
};
struct Online {
  MonotonicTime telemetry_at{};
  std::optional<TaskId> offered;              ///< Awaits its receipt; one update at a time.
  std::optional<MonotonicTime> outcome_told;  ///< When Serving::outcome went out on this connection.
};
using LinkPhase = std::variant<Offline, Connecting, AwaitingTrust, AwaitingWelcome, Online>;

struct Link {
  LinkPhase phase;
  std::uint64_t connection = 0;  ///< The newest one's number; not durable.
  std::uint32_t attempts = 0;    ///< Since a session last reached Online.
  std::string why;               ///< The last connection is over; for people, not durable.
};

struct Trust {
  PublicKey root;
  std::optional<TrustDocument> document;
  UtcTime signed_time{};  ///< The highest seen, never past the document's expiry.
};

/// A release whose signature was verified; its bytes stay in the blob store.
struct KnownRelease {
  ContentId content;  ///< The signed release.
  PublicKey signer;
  UtcTime expires;
  std::uint64_t epoch = 0;
  std::vector<std::string> recipes;
  ContentId initial_weights;
  std::uint64_t fp32_bytes = 0;  ///< What a snapshot of each dense form has.
  std::uint64_t int8_bytes = 0;
  std::uint64_t sparse_extra_bytes = 0;  ///< How many more one of a sparse form has at most.

  bool operator==(const KnownRelease&) const = default;
};

enum class Step : std::uint8_t { preparing, running, sealing };

struct Task {
  std::uint64_t sequence = 0;  ///< Order of arrival.
  message::Task task;          ///< As received; `remaining_ms` is cut to Config::task_length_max.
  VersionManifest base;
  std::optional<CandidateManifest> candidate;
  UtcTime deadline_utc{};
  std::uint32_t attempts = 0;  ///< Begun, and not ended by a clean stop.
  // Not durable: after a crash a task starts anew.
  MonotonicTime deadline{};
  Step step = Step::preparing;
  std::optional<ContentId> result;  ///< Sealing an update: its delta.
  std::uint64_t result_bytes = 0;
};

/// Signed and durable, offered until the coordinator answers.
struct OutboxEntry {
  enum class Kind : std::uint8_t { update, report };
  std::uint64_t sequence = 0;
  Kind kind = Kind::update;
  Envelope envelope;
  ContentId content;  ///< The delta; zero for a report, and once the receipt came.
  std::uint64_t content_bytes = 0;
  bool accepted = false;  ///< An update that awaits its verdict.
  UtcTime made{};         ///< Of an update.
};

/// How a task ended: remembered, so that the same one is not done twice.
struct Ended {
  TaskId task;
  /// aggregated, discarded, reported, refused, duplicate, failed, expired, cancelled, or unanswered:
  /// accepted, and no verdict came.
  std::string outcome;
  Reason reason = Reason::none;
  VersionNumber version = 0;
  UtcTime time{};
  std::string detail{};  ///< In words; at most detail_bytes_max.
};
/// How much of an explanation is kept and sent.
inline constexpr std::size_t detail_bytes_max = 500;

/// A version that this node holds whole.
struct Held {
  VersionManifest manifest;
  std::string variant;
};
struct Pending {
  VersionManifest manifest;
  bool judged = false;        ///< Its release is known and allows it. Not durable.
  std::string variant{};      ///< Chosen once it is judged. Not durable.
  std::uint32_t damages = 0;  ///< How often the disk had damaged its content. Not durable.
  /// Trials begun that ended neither by their outcome nor by a clean stop: what kills the process is not
  /// tried at each start for ever.
  std::uint32_t attempts = 0;
};
/// Whether the driver answers inferences with Serving::active; `waiting` for content that the disk has
/// damaged.
enum class Service : std::uint8_t { none, loading, loaded, waiting, failed };
struct Serving {
  std::uint64_t highest_manifest = 0;  ///< Ever accepted.
  std::uint64_t epoch_floor = 0;       ///< The highest of any release whose signature was verified.
  std::optional<Held> active;          ///< What to serve, at each start too.
  std::optional<Held> previous;        ///< Where to return to.
  std::optional<Pending> pending;      ///< The newest assignment, until its trial has ended.
  std::optional<Held> trial;           ///< Being tried by the driver; perhaps not the newest. Not durable.
  std::optional<message::Activation> outcome;  ///< Of the last assignment, until the coordinator was told.
  Service service = Service::none;             ///< Not durable.
  std::uint32_t damages = 0;                   ///< As in Pending, of `active`. Not durable.
  std::uint32_t attempts = 0;                  ///< As in Pending, to load `active`.
};

struct Transfers {
  std::set<ContentId> present;         ///< Fetched and durable.
  std::optional<ContentId> in_flight;  ///< Not durable.
  bool issued = false;                 ///< … and asked for on this connection.
  struct Retry {
    MonotonicTime at{};
    std::uint32_t attempts = 0;
  };
  std::map<ContentId, Retry> retries;  ///< Not durable.
};

struct Counts {
  std::uint64_t samples = 0;
  std::uint64_t holdout_samples = 0;
  std::uint64_t inferences = 0;
  std::uint64_t inference_errors = 0;
};

/// All that a node's agent knows. Values only: copy it to compare or to crash.
struct State {
  Config config;
  Rng rng;
  Link link;
  Trust trust;
  std::map<ReleaseId, KnownRelease> releases;
  std::map<TaskId, Task> tasks;
  std::map<TaskId, OutboxEntry> outbox;
  std::map<std::uint64_t, Ended> ended;  ///< By order of ending, the oldest forgotten first.
  Serving serving;
  Transfers transfers;
  Counts counts;
  std::uint64_t next_sequence = 1;
  bool stopping = false;
};

}  // namespace rivulet::node
