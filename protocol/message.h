#pragma once

#include <string>
#include <variant>
#include <vector>

#include "protocol/content.h"
#include "protocol/envelope.h"
#include "protocol/ids.h"
#include "protocol/reason.h"
#include "protocol/result.h"
#include "protocol/trust.h"

/// The messages of protocol/schema.capnp as values; the schema tells what each is for.
namespace rivulet::message {

struct TrustChain {
  std::vector<SignedTrust> documents;
  bool operator==(const TrustChain&) const = default;
};
struct TrustRequest {
  std::uint64_t from_version = 0;
  bool operator==(const TrustRequest&) const = default;
};
struct Hello {
  std::uint16_t protocol_min = 0;
  std::uint16_t protocol_max = 0;
  FleetId fleet;
  std::string software;
  bool operator==(const Hello&) const = default;
};
struct Enrol {
  std::uint16_t protocol_min = 0;
  std::uint16_t protocol_max = 0;
  FleetId fleet;
  std::string software;
  JoinSecret secret;
  bool operator==(const Enrol&) const = default;
};
struct Enrolled {
  std::string name;
  bool operator==(const Enrolled&) const = default;
};
struct Welcome {
  std::uint16_t protocol = 0;
  Envelope time;
  std::uint32_t heartbeat_seconds = 0;
  bool operator==(const Welcome&) const = default;
};
struct Refused {
  Reason reason = Reason::none;
  std::string detail;
  bool operator==(const Refused&) const = default;
};
struct Backoff {
  Reason reason = Reason::none;
  std::uint32_t retry_after_ms = 0;
  bool operator==(const Backoff&) const = default;
};
struct Ready {
  VersionNumber serves = 0;
  std::uint64_t manifest_version = 0;
  std::uint64_t samples = 0;
  std::uint64_t holdout_samples = 0;
  std::vector<TaskId> open_tasks;
  std::vector<TaskId> awaiting_verdict;
  bool operator==(const Ready&) const = default;
};
struct Assignment {
  Envelope manifest;
  bool operator==(const Assignment&) const = default;
};

enum class TaskType : std::uint8_t { train, evaluate };

struct TrainingPlan {
  std::uint32_t epochs = 1;
  std::uint32_t batch_size = 10;
  double learning_rate = 0.1;
  double momentum = 0;
  double weight_decay = 0;
  double proximal_mu = 0;
  double norm_bound = 0;
  std::uint64_t seed = 0;
  std::uint16_t codec = 0;
  std::uint16_t optimizer = 0;
  bool operator==(const TrainingPlan&) const = default;
};
struct Task {
  TaskId id;
  TaskType type = TaskType::train;
  RoundNumber round = 0;
  std::uint64_t remaining_ms = 0;
  Envelope base;
  TrainingPlan training;
  Envelope candidate;
  bool operator==(const Task&) const = default;
};
struct TaskCancelled {
  TaskId id;
  Reason reason = Reason::none;
  bool operator==(const TaskCancelled&) const = default;
};
struct Fetch {
  ContentId content;
  std::uint64_t offset = 0;
  std::uint32_t credit = 0;
  bool want_list = false;
  bool operator==(const Fetch&) const = default;
};
struct ContentList {
  ContentId content;
  ChunkList list;
  bool operator==(const ContentList&) const = default;
};
struct Chunk {
  ContentId content;
  std::uint64_t offset = 0;
  Bytes data;
  bool operator==(const Chunk&) const = default;
};
struct Credit {
  ContentId content;
  std::uint32_t bytes = 0;
  bool operator==(const Credit&) const = default;
};
struct NoContent {
  ContentId content;
  bool operator==(const NoContent&) const = default;
};
struct Offer {
  Envelope header;
  bool operator==(const Offer&) const = default;
};

enum class ReceiptOutcome : std::uint16_t { accepted = 0, duplicate = 1, refused = 2 };

struct Receipt {
  TaskId task;
  ReceiptOutcome outcome = ReceiptOutcome::accepted;
  Reason reason = Reason::none;
  std::string detail;
  bool operator==(const Receipt&) const = default;
};

enum class VerdictOutcome : std::uint16_t { aggregated = 0, discarded = 1 };

struct Verdict {
  TaskId task;
  VerdictOutcome outcome = VerdictOutcome::discarded;
  Reason reason = Reason::none;
  VersionNumber version = 0;
  bool operator==(const Verdict&) const = default;
};
struct Verdicts {
  std::vector<Verdict> entries;
  bool operator==(const Verdicts&) const = default;
};
struct Evaluation {
  Envelope report;
  bool operator==(const Evaluation&) const = default;
};
struct Heartbeat {
  bool operator==(const Heartbeat&) const = default;
};
struct Telemetry {
  VersionNumber serves = 0;
  std::uint64_t samples = 0;
  std::uint64_t holdout_samples = 0;
  std::uint64_t inferences = 0;
  std::uint64_t inference_errors = 0;
  bool operator==(const Telemetry&) const = default;
};
struct Activation {
  VersionNumber version = 0;
  std::uint64_t manifest_version = 0;
  Reason outcome = Reason::none;
  std::string detail;
  bool operator==(const Activation&) const = default;
};

/// A node gives a task up: neither update nor report will come.
struct Declined {
  TaskId task;
  Reason reason = Reason::none;
  std::string detail;
  bool operator==(const Declined&) const = default;
};

}  // namespace rivulet::message

namespace rivulet {

using Message =
    std::variant<message::TrustChain, message::TrustRequest, message::Hello, message::Enrol,
                 message::Enrolled, message::Welcome, message::Refused, message::Backoff, message::Ready,
                 message::Assignment, message::Task, message::TaskCancelled, message::Fetch,
                 message::ContentList, message::Chunk, message::Credit, message::NoContent, message::Offer,
                 message::Receipt, message::Verdicts, message::Evaluation, message::Heartbeat,
                 message::Telemetry, message::Activation, message::Declined>;

/// One frame's body, without the length before it.
Bytes encode(const Message& message);

/// @param frame untrusted: one frame's body. Copies what it keeps. Never allocates more than a small
/// multiple of the frame's size. @return corrupt, with what is wrong.
Result<Message> decode_message(ByteSpan frame);

/// The message's name in logs, e.g. "offer".
std::string_view name(const Message& message);

}  // namespace rivulet
