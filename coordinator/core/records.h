#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "coordinator/core/fleet.h"
#include "coordinator/core/registry.h"
#include "coordinator/core/round.h"
#include "protocol/trust.h"

/// The stored form of records: JSON text; ids in hexadecimal, bytes in Base64url, times in RFC 3339.
/// Keys are only ever added, and a missing one reads as its default.
///
///   nodes       node key (32 bytes)         NodeRecord
///   tokens      hash of the secret (32)     TokenRecord
///   tasks       task id (16)                TaskRecord, while its round is open
///   rounds      round number (u64 BE)       RoundRecord
///   updates     task id (16)                UpdateRecord, until its verdict
///   verdicts    round (u64 BE), task id     VerdictRecord
///   releases    release id (32)             ReleaseRecord
///   versions    version number (u64 BE)     VersionRecord
///   assignment  "all"                       {"version"}
///   audit       seq (u64 BE)                an entry of the chain
///   meta        "fleet"                     {"format", "seed"}
///               "registry"                  {"active", "head", "manifest_version"}
///               "schedule"                  Schedule
///               "trust/" version (u64 BE)   SignedTrust
namespace rivulet::coordinator {

/// What is stored of a round in each of its phases; what a phase lacks is absent.
struct RoundRecord {
  RoundPlan plan;
  RoundSummary summary;
  UtcTime deadline;                         ///< Of the phase.
  UtcTime patience;                         ///< Selecting.
  std::uint32_t attempt = 0;                ///< Aggregating and later.
  std::optional<CandidateBuilt> candidate;  ///< Gating and Publishing.
};

nlohmann::json to_json(const NodeRecord& record);
nlohmann::json to_json(const TokenRecord& record);
nlohmann::json to_json(const TaskRecord& record);
nlohmann::json to_json(const RoundRecord& record);
nlohmann::json to_json(const UpdateRecord& record);
nlohmann::json to_json(const VerdictRecord& record);
nlohmann::json to_json(const ReleaseRecord& record);
nlohmann::json to_json(const VersionRecord& record);
nlohmann::json to_json(const Schedule& record);
nlohmann::json to_json(const SignedTrust& record);
nlohmann::json to_json(const Metrics& metrics);

/// @param text a stored value. @return corrupt.
template <typename Record>
Result<Record> parse_record(ByteSpan text);

template <>
Result<NodeRecord> parse_record(ByteSpan text);
template <>
Result<TokenRecord> parse_record(ByteSpan text);
template <>
Result<TaskRecord> parse_record(ByteSpan text);
template <>
Result<RoundRecord> parse_record(ByteSpan text);
template <>
Result<UpdateRecord> parse_record(ByteSpan text);
template <>
Result<VerdictRecord> parse_record(ByteSpan text);
template <>
Result<ReleaseRecord> parse_record(ByteSpan text);
/// With its list of updates.
template <>
Result<VersionRecord> parse_record(ByteSpan text);
template <>
Result<Schedule> parse_record(ByteSpan text);
template <>
Result<SignedTrust> parse_record(ByteSpan text);

/// The stored form of a JSON value.
Bytes record_bytes(const nlohmann::json& value);

}  // namespace rivulet::coordinator
