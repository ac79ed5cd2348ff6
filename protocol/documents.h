#pragma once

#include "protocol/envelope.h"
#include "protocol/ids.h"
#include "protocol/now.h"
#include "protocol/result.h"

namespace rivulet {

/// What a node claims of the update that it offers. The update's id is its task's id.
struct UpdateHeader {
  FleetId fleet;
  TaskId task;
  PublicKey node;
  VersionNumber base_version = 0;
  Digest base_hash;                   ///< Of the float32 weights that were trained from.
  std::uint16_t codec = 0;            ///< protocol/codec/codec.h
  std::uint64_t parameter_count = 0;  ///< The length of the flat vector.
  std::uint64_t sample_count = 0;
  double loss_first = 0;  ///< Mean training loss of the first epoch.
  double loss_last = 0;   ///< … and of the last.
  ContentId content;
  std::uint64_t content_bytes = 0;
  UtcTime time;

  bool operator==(const UpdateHeader&) const = default;
};

/// How a candidate compares with its parent on the same samples of one node.
struct EvaluationReport {
  FleetId fleet;
  TaskId task;
  PublicKey node;
  Digest parent_hash;
  Digest candidate_hash;
  std::uint64_t both_right = 0;
  std::uint64_t parent_only = 0;  ///< Samples that only the parent has right.
  std::uint64_t candidate_only = 0;
  std::uint64_t both_wrong = 0;
  double parent_loss_sum = 0;
  double candidate_loss_sum = 0;
  UtcTime time;

  bool operator==(const EvaluationReport&) const = default;
  [[nodiscard]] std::uint64_t samples() const {
    return both_right + parent_only + candidate_only + both_wrong;
  }
};

/// The coordinator's clock, for nodes that have none.
struct SignedTime {
  FleetId fleet;
  UtcTime utc;

  bool operator==(const SignedTime&) const = default;
};

Bytes encode(const UpdateHeader& header);
Bytes encode(const EvaluationReport& report);
Bytes encode(const SignedTime& time);

/// @param payload untrusted: its signature says who wrote it, not that it is well formed. @return corrupt.
Result<UpdateHeader> decode_update_header(ByteSpan payload);
Result<EvaluationReport> decode_evaluation_report(ByteSpan payload);
Result<SignedTime> decode_signed_time(ByteSpan payload);

}  // namespace rivulet
