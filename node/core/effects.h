#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "models/package/version.h"
#include "protocol/documents.h"
#include "protocol/message.h"
#include "protocol/now.h"

/// What a node's agent asks of its driver. Effects are carried out in order, and only after the writes
/// of their transition (and of all before it) are durable.
namespace rivulet::node::effect {

/// Open a connection to the coordinator under this number; an earlier one is gone. Answered by
/// Connected or Disconnected.
struct Connect {
  std::uint64_t connection = 0;
};
/// Close it. The agent has let go of it already: no Disconnected is needed, a late one does no harm.
struct Disconnect {
  std::uint64_t connection = 0;
  Reason reason = Reason::none;
  std::string detail;
};
/// On a connection that is gone meanwhile: drop it.
struct Send {
  std::uint64_t connection = 0;
  Message message;
};

/// Get this content into the blob store, from the coordinator unless it is there already. At most one
/// is under way: a new one replaces it. Given again after each reconnect. Answered by ContentReceived
/// or ContentFailed, which a Fetch that was replaced need not be.
struct Fetch {
  ContentId content;
  std::uint64_t max_bytes = 0;  ///< Content that is longer fails as too_large before its bytes come.
  bool want_bytes = false;      ///< ContentReceived carries the bytes.
};
/// Nothing refers to this content any more: remove it, parts of it too. Absent content is no error.
struct DropContent {
  ContentId content;
  bool damaged = false;  ///< Something does, but the disk has damaged it: it will be fetched anew.
};

/// Train from `base`, whose release, w_0 and snapshot are in the blob store; signatures are verified.
/// Before training, the driver checks that the snapshot decodes to `base.weights_hash` and lies within
/// the release's max_distance of w_0 (else TaskFailed with corrupt_content). The delta is clipped and
/// coded as `plan` says. Answered by TrainingDone or TaskFailed, or ended by StopTask, which comes at the
/// task's deadline too. One at a time.
struct Train {
  TaskId task;
  RoundNumber round = 0;
  VersionManifest base;
  message::TrainingPlan plan;
};
/// Score the variant of both that this node serves on the local holdout, with Train's checks for each.
/// Answered by EvaluationDone or TaskFailed, or ended by StopTask as a training is. One at a time, perhaps
/// beside a training.
struct Evaluate {
  TaskId task;
  RoundNumber round = 0;
  VersionManifest parent;
  CandidateManifest candidate;
  std::string variant = "fp32";
};
/// The result of a Train or Evaluate is not wanted any more, or not yet: an evaluation is stopped with each
/// Activate that inference waits for, and given again once that is answered. A late answer does no harm.
struct StopTask {
  TaskId task;
};
/// seal(node key, Context::update, encode(header)). Answered by UpdateSealed.
struct SealUpdate {
  UpdateHeader header;
};
/// seal(node key, Context::evaluation, encode(report)). Answered by ReportSealed.
struct SealReport {
  EvaluationReport report;
};

/// Serve `variant` of `manifest`, whose release, w_0 and snapshot are in the blob store; signatures are
/// verified. The driver makes the variant of the snapshot by the release's recipe. The driver checks hash and
/// distance as for Train, loads the variant, and asks it the known inputs. A trial is compared with the model
/// in service on the local holdout too; a roll-back (to what this node tried, and served before the model in
/// service) and a restoration (at start, or after the model in service failed) are not. Before it is swapped
/// in, the driver asks wants_activation(); an activation that is not wanted any more is dropped, and what
/// served before goes on. Answered by ActivationDone or ActivationFailed. In order: a later one wins.
struct Activate {
  enum class Kind : std::uint8_t { trial, rollback, restoration };
  Kind kind = Kind::trial;
  VersionManifest manifest;
  std::string variant;
};

/// What serves is broken: nothing does, until the next ActivationDone.
struct Unload {};

/// Worth a line in the log, and an alarm if it is an error.
struct Notice {
  enum class Level : std::uint8_t { info, warning, error };
  Level level = Level::info;
  std::string event;  ///< A word, e.g. "update_refused".
  std::vector<std::pair<std::string, std::string>> fields;
};

}  // namespace rivulet::node::effect

namespace rivulet::node {

using Effect =
    std::variant<effect::Connect, effect::Disconnect, effect::Send, effect::Fetch, effect::DropContent,
                 effect::Train, effect::Evaluate, effect::StopTask, effect::SealUpdate, effect::SealReport,
                 effect::Activate, effect::Unload, effect::Notice>;

}  // namespace rivulet::node
