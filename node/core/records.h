#pragma once

#include <array>
#include <span>
#include <string_view>

#include "node/core/state.h"
#include "protocol/result.h"
#include "storage/write.h"

/// How the agent's state lies in the store: JSON text, one record for each thing that changes alone.
///
///   meta       "agent"            highest manifest, epoch floor, signed time, outcome to tell
///   trust      "document"         the trust document in force
///   manifests  "active", "previous", "pending", "release/ID", "content/ID" (present in the blob store)
///   tasks      task id            tasks that are not answered yet
///   outbox     task id            signed updates and reports until receipt and verdict
///   verdicts   number             how tasks ended, the newest Config::ended_max
namespace rivulet::node {

/// The families that the node's store must have for the agent.
inline constexpr std::array<std::string_view, 6> families = {"meta",  "trust",  "manifests",
                                                             "tasks", "outbox", "verdicts"};

/// @param seed for the jitter of waits.
/// @param records every record of the families above, in any order; none on the first start.
/// @return corrupt, naming the record.
Result<State> recover(const Config& config, std::uint64_t seed, std::span<const Put> records);

/// What enrolment leaves for the agent: the document that the coordinator was trusted by.
Put record_of(const TrustDocument& document);

Put meta_record(const State& state);
Put active_record(const Serving& serving);
Put previous_record(const Held& held);
Put pending_record(const Pending& pending);
Put release_record(const ReleaseId& id, const KnownRelease& release);
Put content_record(const ContentId& content);
Put task_record(const Task& task);
Put outbox_record(const TaskId& task, const OutboxEntry& entry);
Put ended_record(std::uint64_t sequence, const Ended& ended);

Erase manifest_erasure(std::string_view key);
Erase release_erasure(const ReleaseId& id);
Erase content_erasure(const ContentId& content);
Erase task_erasure(const TaskId& task);
Erase outbox_erasure(const TaskId& task);
Erase ended_erasure(std::uint64_t sequence);

}  // namespace rivulet::node
