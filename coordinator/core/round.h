#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "coordinator/core/config.h"
#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"
#include "coordinator/core/fleet.h"
#include "coordinator/core/gate.h"
#include "protocol/documents.h"
#include "protocol/message.h"

namespace rivulet::coordinator {

/// A point to act at: kept by the monotonic clock, stored as UTC, and clipped to [0, length] from now
/// when it is read back, so that neither a jump nor a restart makes a wait longer than it may be.
struct Deadline {
  MonotonicTime at{};
  UtcTime utc{};
  std::chrono::milliseconds length{};

  bool operator==(const Deadline&) const = default;
  [[nodiscard]] bool passed(const Now& now) const { return now.monotonic >= at; }
  [[nodiscard]] std::chrono::milliseconds remaining(const Now& now) const;

  static Deadline after(const Now& now, std::chrono::milliseconds length);
  static Deadline restored(UtcTime utc, std::chrono::milliseconds length, const Now& now);
};

/// All that a round was started with; stored with it, so that a changed configuration does not reach
/// into it.
struct RoundPlan {
  RoundNumber round = 0;
  ReleaseId release;
  VersionNumber base = 0;
  Digest base_hash;
  std::uint64_t parameter_count = 0;
  std::uint64_t update_bytes_max = 0;  ///< mixed_bytes() of codec and layout.
  std::uint64_t invited_max = 0;       ///< cohort * over_selection, rounded up.
  std::uint64_t goal_count = 0;        ///< Closes training; at most as many as were invited.
  message::TrainingPlan training;      ///< Its seed is the round's; each task's is derived from it.
  RoundConfig config;
  AggregationConfig aggregation;
  ValidationConfig validation;
  bool has_holdout = false;
  bool has_test = false;

  bool operator==(const RoundPlan&) const = default;
};

/// What is told of a round, running or over.
struct RoundSummary {
  RoundNumber round = 0;
  std::string state = "selecting";  ///< The phase; at the end "published", "refused" or "failed".
  std::string reason;               ///< Why it was refused or failed, in words.
  UtcTime started;
  UtcTime ended;
  std::uint64_t invited = 0;
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;
  std::uint64_t declined = 0;        ///< Tasks that their nodes gave up, to train or to evaluate.
  std::uint64_t upload_bytes = 0;    ///< Of accepted updates.
  std::uint64_t download_bytes = 0;  ///< That the driver counted; not stored before the phase ends.
  VersionNumber version = 0;         ///< That it published.
  std::optional<Metrics> metrics;    ///< Of its candidate.

  bool operator==(const RoundSummary&) const = default;
};

/// An update with an accepted receipt that has no verdict yet.
struct UpdateRecord {
  TaskId task;
  PublicKey node;
  RoundNumber round = 0;
  ContentId content;
  std::uint64_t content_bytes = 0;
  std::uint16_t codec = 0;
  std::uint64_t sample_count = 0;
  double norm = 0;
  double loss_first = 0;
  double loss_last = 0;
  std::uint64_t order = 0;  ///< Of acceptance within the round, from 0.
  UtcTime accepted;

  bool operator==(const UpdateRecord&) const = default;
};

/// How an accepted update ended; written once.
struct VerdictRecord {
  TaskId task;
  PublicKey node;
  RoundNumber round = 0;
  ContentId content;
  message::VerdictOutcome outcome = message::VerdictOutcome::discarded;
  Reason reason = Reason::none;
  VersionNumber version = 0;

  bool operator==(const VerdictRecord&) const = default;
};

/// A piece of work, durable before it is sent.
struct TaskRecord {
  TaskId id;
  PublicKey node;
  RoundNumber round = 0;
  message::TaskType type = message::TaskType::train;
  std::optional<PairedCounts> report;  ///< The answer to an evaluate task.
  std::optional<Refusal> declined{};   ///< Why the node gave it up.
  std::optional<Refusal> refused{};    ///< Why its content was no good.

  bool operator==(const TaskRecord&) const = default;
};

/// The same after a crash: the first 16 bytes of SHA-256("rivulet.task.v1", fleet, round (u64 LE), node
/// key, type (u8), attempt (u32 LE)). @param attempt 0 for training; for evaluations how often the
/// round's set was sealed anew, since another candidate is another task.
TaskId task_id(const FleetId& fleet, RoundNumber round, const PublicKey& node, message::TaskType type,
               std::uint32_t attempt);
/// "train" or "evaluate".
std::string_view name(message::TaskType type);

// ---- One type per phase.

struct Idle {};
struct Selecting {
  Deadline patience;  ///< Until then a full cohort is waited for.
  Deadline deadline;
};
struct Training {
  enum class TaskState { open, accepted, refused, declined, withdrawn };
  struct Invited {
    PublicKey node;
    TaskState state = TaskState::open;
    Refusal refusal;  ///< `refused`: the content was no good, and the answer stays. `declined`: why.
    std::set<ContentId> offered{};  ///< Fetched, or begun to be, by this process.
  };
  struct Incoming {
    SessionId session = 0;
    UpdateHeader header;
  };
  Deadline deadline;
  std::map<TaskId, Invited> tasks;
  std::map<TaskId, UpdateRecord> accepted;
  std::map<TaskId, Incoming> incoming;  ///< Admitted, content on its way.
  std::size_t open = 0;                 ///< Tasks that may still bring an update.
};
/// The sealed set, in the order of task id, with what each weighs.
struct SealedSet {
  std::uint32_t attempt = 0;  ///< Rises when the set changes.
  std::vector<UpdateRecord> updates;
  std::vector<SealedEntry> entries;  ///< One per update.
};
struct Aggregating {
  SealedSet sealed;
  bool requested = false;  ///< By this process: a restart asks again.
};
struct Gating {
  struct Score {
    std::optional<Metrics> parent_central;
    std::optional<Metrics> candidate_central;
    std::optional<Metrics> candidate_test;
  };
  SealedSet sealed;
  CandidateBuilt candidate;
  Deadline deadline;
  std::map<TaskId, TaskRecord> evaluators;
  std::size_t reports = 0;
  std::optional<Score> score;
  bool score_requested = false;
};
struct Publishing {
  SealedSet sealed;
  CandidateBuilt candidate;
  std::optional<Metrics> metrics;
  Deadline not_before;                   ///< The release's min_interval after its last version.
  std::optional<VersionManifest> asked;  ///< For a signature on it, by this process.
};
/// A pause, so that what fails at once does not fail in a tight loop.
struct Failed {
  Error why;
  Deadline until;
};

using RoundPhase = std::variant<Idle, Selecting, Training, Aggregating, Gating, Publishing, Failed>;

/// The round in progress. `plan` and `summary` are those of the last one while the phase is Idle.
struct Round {
  RoundPlan plan;
  RoundSummary summary;
  RoundPhase phase;
};

/// Which rounds are to be run.
struct Schedule {
  RoundNumber last_started = 0;
  RoundNumber until = 0;       ///< Rounds up to this number are wanted.
  std::uint32_t refusals = 0;  ///< Candidates refused in a row.
  std::uint32_t failures = 0;  ///< Rounds since the last version whose aggregation or publication failed.
  std::string stopped;         ///< Why it stopped by itself; empty otherwise.

  bool operator==(const Schedule&) const = default;
};

/// What an offer is judged against. `task` is null if no open round knows it.
struct OfferContext {
  FleetId fleet;
  PublicKey node;  ///< Of the session.
  RoundPlan plan;
  bool open = false;  ///< The round takes updates.
  const Training::Invited* task = nullptr;
};
/// Who signed an offer, and that it is well formed. @param header untrusted. @return bad_signature,
/// malformed_frame.
std::expected<UpdateHeader, Refusal> open_offer(const Envelope& header, const PublicKey& node);
/// Whether an offer's content is worth fetching. Pure, before any byte of it. @return nothing, or why
/// not: wrong_fleet, bad_signature, not_your_task, unknown_task, round_closed, stale_base, wrong_layout,
/// too_large, bad_sample_count, not_finite.
std::optional<Refusal> judge(const UpdateHeader& header, const OfferContext& context);

/// Weights and scales of the updates, which are in the order of task id. Pure.
std::vector<SealedEntry> seal(const std::vector<UpdateRecord>& updates, const RoundPlan& plan);

}  // namespace rivulet::coordinator
