#pragma once

#include <string>
#include <variant>
#include <vector>

#include "protocol/envelope.h"
#include "protocol/message.h"
#include "protocol/result.h"

/// What happens to a node's agent. Those of a connection carry the number that effect::Connect gave it:
/// what an old one still says is ignored.
namespace rivulet::node::event {

/// TLS is up.
struct Connected {
  std::uint64_t connection = 0;
  PublicKey coordinator;  ///< The key that the peer proved.
};
/// The connection ended, or could not be made.
struct Disconnected {
  std::uint64_t connection = 0;
  Error error;
};
struct MessageReceived {
  std::uint64_t connection = 0;
  Message message;
};
/// Time passed: due at next_deadline() or later.
struct Tick {};

/// Whenever the numbers change, and once after start.
struct SampleCounts {
  std::uint64_t samples = 0;  ///< Labelled ones to train on.
  std::uint64_t holdout_samples = 0;
};
/// Since the process started.
struct InferenceCounts {
  std::uint64_t inferences = 0;
  std::uint64_t errors = 0;
};

/// Content is verified and durable.
struct ContentReceived {
  ContentId content;
  Bytes bytes;  ///< Filled when effect::Fetch asked for it, else empty.
};
/// It won't come by itself. too_large and refused are final; anything else is tried again.
struct ContentFailed {
  ContentId content;
  Error error;
};

/// The encoded delta is durable in the blob store.
struct TrainingDone {
  TaskId task;
  ContentId content;
  std::uint64_t content_bytes = 0;
  std::uint64_t parameter_count = 0;
  std::uint64_t sample_count = 0;
  double loss_first = 0;  ///< As in UpdateHeader.
  double loss_last = 0;
};
struct EvaluationDone {
  TaskId task;
  std::uint64_t both_right = 0;  ///< As in EvaluationReport.
  std::uint64_t parent_only = 0;
  std::uint64_t candidate_only = 0;
  std::uint64_t both_wrong = 0;
  double parent_loss_sum = 0;
  double candidate_loss_sum = 0;
};
/// Training or evaluation gave nothing: training_diverged, too_few_samples, training_failed,
/// corrupt_content, storage_failed, storage_full. The task is not tried again, unless contents are named.
struct TaskFailed {
  TaskId task;
  Reason reason = Reason::training_failed;
  std::string detail;
  std::vector<ContentId> damaged{};  ///< What it needs and is not in the blob store any more as its id says.
};
/// The header of effect::SealUpdate under this node's signature, Context::update.
struct UpdateSealed {
  TaskId task;
  Envelope header;
};
/// The report of effect::SealReport under this node's signature, Context::evaluation.
struct ReportSealed {
  TaskId task;
  Envelope report;
};

/// The version of effect::Activate answers all inferences from now on.
struct ActivationDone {
  std::uint64_t manifest_version = 0;
};
/// It does not, and what served before goes on: known_answers_wrong, worse_on_holdout, not_loadable,
/// bad_manifest; none if wants_activation() denied it.
struct ActivationFailed {
  std::uint64_t manifest_version = 0;
  Reason reason = Reason::not_loadable;
  std::string detail;
  std::vector<ContentId> damaged{};  ///< As in TaskFailed.
};
/// The model in service answers with numbers that are not finite, or can't answer at all.
struct ActiveModelFailed {
  std::uint64_t manifest_version = 0;
  std::string detail;
};

/// The process is about to end.
struct ShuttingDown {};

}  // namespace rivulet::node::event

namespace rivulet::node {

using Event = std::variant<event::Connected, event::Disconnected, event::MessageReceived, event::Tick,
                           event::SampleCounts, event::InferenceCounts, event::ContentReceived,
                           event::ContentFailed, event::TrainingDone, event::EvaluationDone,
                           event::TaskFailed, event::UpdateSealed, event::ReportSealed, event::ActivationDone,
                           event::ActivationFailed, event::ActiveModelFailed, event::ShuttingDown>;

}  // namespace rivulet::node
