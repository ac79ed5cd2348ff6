#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/core/config.h"
#include "coordinator/core/events.h"
#include "models/package/version.h"
#include "protocol/message.h"
#include "protocol/trust.h"
#include "storage/write.h"

namespace rivulet::coordinator {

/// One update of a sealed set, as aggregation needs it.
struct SealedEntry {
  TaskId task;
  ContentId content;
  std::uint64_t content_bytes = 0;
  std::uint16_t codec = 0;  ///< protocol/codec/codec.h
  double weight = 0;        ///< capped_weights()
  double scale = 1;         ///< norm_scale()

  bool operator==(const SealedEntry&) const = default;
};

/// What the core wants done, once the writes of its transition are durable.
namespace effect {

struct Send {
  SessionId session = 0;
  Message message;
};
/// message::Welcome with the time signed by the coordinator key.
struct SendWelcome {
  SessionId session = 0;
  std::uint16_t protocol = 0;
  std::uint32_t heartbeat_seconds = 0;
};
/// message::Refused as the last frame, then the end of the connection. Needs no SessionClosed back.
struct Close {
  SessionId session = 0;
  Reason reason = Reason::none;
  std::string detail;
};
/// Take an update's content from a node: UpdateStored, UpdateRejected or UpdateTransferFailed answers.
/// A second one for the same task replaces the first.
struct FetchUpdate {
  SessionId session = 0;
  TaskId task;
  ContentId content;
  std::uint64_t bytes = 0;
  std::uint16_t codec = 0;
  std::uint64_t parameter_count = 0;
  ReleaseId release;  ///< Whose layout says which coordinates count in the norm.
};
/// The task takes no content any more: it is not fetched, and what came of it goes; no answer. Nothing
/// happens if there is none.
struct DropFetch {
  TaskId task;
};
/// Sum the updates, step the master, make the candidate's snapshot, sign its manifest: Aggregated or
/// AggregationFailed answers.
struct Aggregate {
  RoundNumber round = 0;
  std::uint32_t attempt = 0;
  ReleaseId release;
  ContentId release_content;
  VersionNumber parent = 0;
  Digest parent_weights_hash;
  ContentId parent_master;
  ContentId parent_optimizer_state;  ///< Zero if there is none.
  AggregationConfig aggregation;
  std::vector<SealedEntry> entries;  ///< In the rising order of task id.
  double sparsity = 0;               ///< To which the candidate's weights are pruned; the master is not.
};
/// Score parent and candidate on the coordinator's own samples: CandidateScored answers, always.
struct ScoreCandidate {
  RoundNumber round = 0;
  std::uint32_t attempt = 0;
  ReleaseId release;
  VersionNumber parent = 0;
  SnapshotForm form = SnapshotForm::int8;
  ContentId parent_snapshot;
  ContentId candidate_snapshot;
};
/// Derive the variants that the release's recipes name, store their blobs, add them to `manifest`, sign
/// it: VersionSealed or PublicationFailed answers.
struct SealVersion {
  VersionManifest manifest;      ///< Whole but for its variants.
  double variant_tolerance = 0;  ///< ValidationConfig::variant_tolerance
};
/// It has become durable: nodes may hear of it from now on. Until then they are told State::trust_chain
/// without it, or a crash might take back what they hold already.
struct ServeTrust {
  SignedTrust trust;
};
/// Nothing refers to it any more. Best effort: a restart sweeps what referenced_content() doesn't name.
struct EraseContent {
  ContentId content;
};
struct Reply {
  RequestId request = 0;
  Result<nlohmann::json> result;
};
enum class Level { info, warning, error };
/// For the log (one line) and the metrics (a counter by `event` and `reason`).
struct Notice {
  Level level = Level::info;
  std::string event;   ///< e.g. "update_refused".
  std::string reason;  ///< A name(Reason) or another fixed word; empty if there is none.
  std::vector<std::pair<std::string, std::string>> fields;
};

}  // namespace effect

using Effect = std::variant<effect::Send, effect::SendWelcome, effect::Close, effect::FetchUpdate,
                            effect::DropFetch, effect::Aggregate, effect::ScoreCandidate, effect::SealVersion,
                            effect::ServeTrust, effect::EraseContent, effect::Reply, effect::Notice>;

/// The answer to an event. The state has already changed. The driver commits `writes`, in the order of
/// the transitions and those of many in one synced batch, and then releases `effects` in order: a crash
/// loses a suffix of transitions, each with its effects.
struct Transition {
  WriteBatch writes;
  std::vector<Effect> effects;
};

}  // namespace rivulet::coordinator
