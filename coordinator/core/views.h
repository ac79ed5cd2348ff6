#pragma once

#include <nlohmann/json.hpp>

#include "coordinator/core/coordinator.h"

/// What the admin API shows. Pure; keys are only ever added.
namespace rivulet::coordinator {

/// [{"key","state","tags","last_seen","serves","samples","connected","enrolled","software"}]
nlohmann::json nodes_view(const State& state);
/// [{"id","state","created","expires","uses","used"}]; `id` is the SHA-256 of the secret, `state` "valid",
/// "used" or "expired".
nlohmann::json tokens_view(const State& state, Now now);
/// {"release","version"} that a release was made of; null of none.
nlohmann::json teacher_json(const Release& release);
/// [{"version","release","parent","round","created","teacher","sparsity","metrics",
///   "variants":[{"name","bytes"}]}], oldest first.
nlohmann::json versions_view(const State& state);
/// One of these with its manifest's figures. @return not_found.
Result<nlohmann::json> version_view(const State& state, VersionNumber version);
/// [{"round","state","reason","invited","accepted","refused","upload_bytes","download_bytes","version"}],
/// oldest first, the running one last.
nlohmann::json rounds_view(const State& state);
/// @return not_found, also for rounds that are no longer listed.
Result<nlohmann::json> round_view(const State& state, RoundNumber round);
nlohmann::json round_json(const RoundSummary& summary);
/// Fleet, nodes by state, release, version, round, schedule, storage, trust, audit head.
nlohmann::json status_view(const State& state, Now now);

}  // namespace rivulet::coordinator
