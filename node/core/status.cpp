#include <algorithm>
#include <nlohmann/json.hpp>

#include "node/core/agent.h"
#include "node/core/link.h"
#include "node/core/turn.h"

namespace rivulet::node {
namespace {

using Json = nlohmann::json;

constexpr std::size_t ended_shown = 20;

std::string_view name_of(const LinkPhase& phase) {
  return std::visit(
      Overloaded{[](const Offline&) { return "offline"; }, [](const Connecting&) { return "connecting"; },
                 [](const AwaitingTrust&) { return "awaiting_trust"; },
                 [](const AwaitingWelcome&) { return "awaiting_welcome"; },
                 [](const Online&) { return "online"; }},
      phase);
}

std::string_view name_of(Service service) {
  switch (service) {
    case Service::none: return "none";
    case Service::loading: return "loading";
    case Service::loaded: return "loaded";
    case Service::waiting: return "waiting";
    case Service::failed: return "failed";
  }
  return "none";
}

std::string_view name_of(Step step) {
  switch (step) {
    case Step::preparing: return "preparing";
    case Step::running: return "running";
    case Step::sealing: return "sealing";
  }
  return "preparing";
}

double seconds_until(MonotonicTime then, Now now) {
  return std::max(0.0, std::chrono::duration<double>(then - now.monotonic).count());
}

Json version_of(const VersionManifest& manifest) {
  return {{"version", manifest.version},
          {"manifest_version", manifest.manifest_version},
          {"release", manifest.release.hex()},
          {"round", manifest.round},
          {"audit_head", manifest.audit_head.hex()},
          {"created", to_rfc3339(manifest.created)}};
}

Json held_of(const std::optional<Held>& held) {
  if (!held) return nullptr;
  Json json = version_of(held->manifest);
  json["variant"] = held->variant;
  return json;
}

Json link_of(const State& state, Now now) {
  Json json = {{"state", name_of(state.link.phase)}, {"attempts", state.link.attempts}};
  if (const auto* offline = std::get_if<Offline>(&state.link.phase)) {
    json["retry_in_seconds"] = seconds_until(offline->retry_at, now);
  }
  if (!online(state) && !state.link.why.empty()) json["why"] = state.link.why;
  return json;
}

Json trust_of(const State& state, UtcTime utc) {
  Json json = {{"root", state.trust.root.hex()}};
  if (const auto& document = state.trust.document) {
    json["fleet"] = document->fleet.hex();
    json["fleet_name"] = document->name;
    json["coordinator"] = document->coordinator.hex();
    json["version"] = document->version;
    json["expires"] = to_rfc3339(document->expires);
    json["expired"] = trust_expired(state, utc);
  }
  return json;
}

Json tasks_of(const State& state, Now now) {
  Json tasks = Json::array();
  for (const auto& [id, task] : state.tasks) {
    tasks.push_back({{"task", id.hex()},
                     {"type", task.candidate ? "evaluate" : "train"},
                     {"round", task.task.round},
                     {"version", task.base.version},
                     {"state", name_of(task.step)},
                     {"remaining_seconds", seconds_until(task.deadline, now)}});
  }
  return tasks;
}

Json outbox_of(const State& state) {
  Json entries = Json::array();
  for (const auto& [id, entry] : state.outbox) {
    entries.push_back({{"task", id.hex()},
                       {"type", entry.kind == OutboxEntry::Kind::update ? "update" : "report"},
                       {"state", entry.accepted ? "awaiting_verdict" : "offered"},
                       {"bytes", entry.content_bytes}});
  }
  return entries;
}

Json ended_of(const State& state) {
  Json entries = Json::array();
  for (auto it = state.ended.rbegin(); it != state.ended.rend() && entries.size() < ended_shown; ++it) {
    const Ended& ended = it->second;
    entries.push_back({{"task", ended.task.hex()},
                       {"outcome", ended.outcome},
                       {"reason", name(ended.reason)},
                       {"version", ended.version},
                       {"time", to_rfc3339(ended.time)}});
  }
  return entries;
}

}  // namespace

Json status(const State& state, Now now) {
  const UtcTime utc = std::max(now.utc, state.trust.signed_time);
  const Serving& serving = state.serving;
  Json json = {{"node", state.config.node.hex()},
               {"link", link_of(state, now)},
               {"trust", trust_of(state, utc)},
               {"service", name_of(serving.service)},
               {"serves", held_of(serving.active)},
               {"previous", held_of(serving.previous)},
               {"pending", serving.pending ? version_of(serving.pending->manifest) : Json(nullptr)},
               {"samples", state.counts.samples},
               {"holdout_samples", state.counts.holdout_samples},
               {"inferences", state.counts.inferences},
               {"inference_errors", state.counts.inference_errors},
               {"tasks", tasks_of(state, now)},
               {"outbox", outbox_of(state)},
               {"ended", ended_of(state)}};
  json["fetching"] = state.transfers.in_flight ? Json(state.transfers.in_flight->hex()) : Json(nullptr);
  return json;
}

}  // namespace rivulet::node
