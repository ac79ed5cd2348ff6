#include "coordinator/core/views.h"

#include <algorithm>

#include "coordinator/core/records.h"
#include "models/package/snapshot.h"

namespace rivulet::coordinator {
namespace {

using nlohmann::json;

json version_json(const Registry& registry, const VersionRecord& version) {
  const VersionManifest& manifest = version.manifest;
  const Release& release = registry.releases.at(manifest.release).release;
  json variants = json::array();
  for (const VariantInfo& variant : manifest.variants) {
    json one = {{"name", variant.name}, {"bytes", variant.bytes}};
    if (variant.accuracy) one["accuracy"] = *variant.accuracy;
    if (variant.int8_kernels) {
      one["kernels"] = "int8";
      one["int8_form"] = variant.int8_kernels->ranges.values.empty() ? "dynamic" : "static";
    }
    if (variant.own_ranges) one["kernels"] = "own";
    if (variant.activation_bytes > 0) one["activation_bytes"] = variant.activation_bytes;
    if (variant.microseconds > 0) one["microseconds"] = variant.microseconds;
    variants.push_back(std::move(one));
  }
  json metrics = {{"accuracy", nullptr}, {"loss", nullptr}};
  if (version.metrics) metrics = to_json(*version.metrics);
  return {{"version", manifest.version},
          {"release", manifest.release.hex()},
          {"parent", manifest.parent},
          {"round", manifest.round},
          {"created", to_rfc3339(manifest.created)},
          {"teacher", teacher_json(release)},
          {"parameters", release.layout.size()},
          {"reference", manifest.reference},
          {"sparsity", sparsity_at(release.pruning, version.steps)},
          {"metrics", std::move(metrics)},
          {"variants", std::move(variants)}};
}

/// What the release allows and the version lacks, by the names that the audit log has for it.
json not_published(const Release& release, const VersionManifest& manifest) {
  json out = json::array();
  for (const std::string& recipe : release.recipes) {
    const auto variant = std::ranges::find(manifest.variants, recipe, &VariantInfo::name);
    if (variant == manifest.variants.end()) {
      out.push_back(recipe);
    } else if (dense_form(variant_form(recipe, release.snapshot)) == SnapshotForm::int8 &&
               !variant->int8_kernels && !variant->own_ranges) {
      out.push_back(recipe + " kernels");
    }
  }
  return out;
}

/// The running round; its phase says how far it is.
const RoundSummary* running(const State& state) {
  const bool runs =
      !std::holds_alternative<Idle>(state.round.phase) && !std::holds_alternative<Failed>(state.round.phase);
  return runs ? &state.round.summary : nullptr;
}

}  // namespace

json teacher_json(const Release& release) {
  if (!release.teacher) return nullptr;
  return {{"release", release.teacher->release.hex()}, {"version", release.teacher->version}};
}

json nodes_view(const State& state) {
  json out = json::array();
  for (const auto& [key, node] : state.fleet.nodes) {
    out.push_back({{"key", key.hex()},
                   {"state", std::string(name(node.record.state))},
                   {"tags", node.record.tags},
                   {"last_seen", to_rfc3339(node.record.last_seen)},
                   {"serves", node.serves},
                   {"samples", node.samples},
                   {"holdout_samples", node.holdout_samples},
                   {"connected", node.session != 0},
                   {"enrolled", to_rfc3339(node.record.enrolled)},
                   {"software", node.record.software}});
  }
  return out;
}

json tokens_view(const State& state, Now now) {
  json out = json::array();
  for (const auto& [hash, token] : state.fleet.tokens) {
    const char* condition = now.utc >= token.expires   ? "expired"
                            : token.used >= token.uses ? "used"
                                                       : "valid";
    out.push_back({{"id", hash.hex()},
                   {"state", condition},
                   {"created", to_rfc3339(token.created)},
                   {"expires", to_rfc3339(token.expires)},
                   {"uses", token.uses},
                   {"used", token.used}});
  }
  return out;
}

json versions_view(const State& state) {
  json out = json::array();
  for (const auto& [number, version] : state.registry.versions)
    out.push_back(version_json(state.registry, version));
  return out;
}

Result<json> version_view(const State& state, VersionNumber number) {
  const VersionRecord* version = state.registry.find(number);
  if (version == nullptr) return fail(Errc::not_found, "there is no version " + std::to_string(number));
  const VersionManifest& manifest = version->manifest;
  json out = version_json(state.registry, *version);
  out["manifest_version"] = manifest.manifest_version;
  out["form"] = std::string(name(manifest.form));
  out["snapshot"] = manifest.snapshot.hex();
  out["snapshot_bytes"] = manifest.snapshot_bytes;
  out["weights_hash"] = manifest.weights_hash.hex();
  out["fallback"] = manifest.fallback ? manifest.fallback->version : 0;
  out["epoch"] = manifest.epoch;
  out["audit_head"] = manifest.audit_head.hex();
  out["assigned"] = number == state.registry.assigned;
  out["kept"] = version->blobs_kept;
  for (std::size_t i = 0; i < manifest.variants.size(); ++i) {
    const auto& int8 = manifest.variants[i].int8_kernels;
    if (int8) out["variants"][i]["left_in_float"] = int8->ranges.left_in_float;
  }
  out["not_published"] = not_published(state.registry.releases.at(manifest.release).release, manifest);
  return out;
}

json round_json(const RoundSummary& summary) {
  json out = {{"round", summary.round},
              {"state", summary.state},
              {"reason", summary.reason},
              {"invited", summary.invited},
              {"accepted", summary.accepted},
              {"refused", summary.refused},
              {"declined", summary.declined},
              {"upload_bytes", summary.upload_bytes},
              {"download_bytes", summary.download_bytes},
              {"version", summary.version},
              {"started", to_rfc3339(summary.started)}};
  if (summary.ended != UtcTime{}) out["ended"] = to_rfc3339(summary.ended);
  if (summary.metrics) out["metrics"] = to_json(*summary.metrics);
  return out;
}

json rounds_view(const State& state) {
  json out = json::array();
  for (const RoundSummary& summary : state.rounds) out.push_back(round_json(summary));
  if (const RoundSummary* summary = running(state)) out.push_back(round_json(*summary));
  return out;
}

Result<json> round_view(const State& state, RoundNumber round) {
  if (const RoundSummary* summary = running(state); summary != nullptr && summary->round == round) {
    return round_json(*summary);
  }
  for (const RoundSummary& summary : state.rounds) {
    if (summary.round == round) return round_json(summary);
  }
  return fail(Errc::not_found, "round " + std::to_string(round) + " never ran, or is too long ago");
}

json status_view(const State& state, Now now) {
  std::size_t quarantined = 0;
  std::size_t revoked = 0;
  std::size_t connected = 0;
  for (const auto& [key, node] : state.fleet.nodes) {
    if (node.record.state == NodeState::quarantined) ++quarantined;
    if (node.record.state == NodeState::revoked) ++revoked;
    if (node.session != 0) ++connected;
  }
  json out = {{"fleet", state.trust.name},
              {"fleet_id", state.trust.fleet.hex()},
              {"nodes",
               {{"active", state.fleet.active},
                {"quarantined", quarantined},
                {"revoked", revoked},
                {"connected", connected},
                {"ready", state.fleet.active_ready}}},
              {"version", state.registry.assigned},
              {"head", state.registry.head},
              {"manifest_version", state.registry.manifest_version},
              {"release", nullptr},
              {"round", nullptr},
              {"schedule",
               {{"started", state.schedule.last_started},
                {"until", state.schedule.until},
                {"refusals", state.schedule.refusals},
                {"stopped", state.schedule.stopped}}},
              {"storage", state.storage_failed ? "failed"
                          : state.storage_full ? "full"
                                               : "ok"},
              {"trust",
               {{"version", state.trust.version},
                {"expires", to_rfc3339(state.trust.expires)},
                {"expired", state.trust.expires <= now.utc}}},
              {"audit", {{"seq", state.audit.seq}, {"head", state.audit.hash.hex()}}}};
  if (const ReleaseRecord* release = state.registry.active_release()) {
    out["release"] = {{"id", release->id.hex()},
                      {"name", release->release.name},
                      {"expires", to_rfc3339(release->release.limits.expires)},
                      {"expired", release->release.limits.expires <= now.utc}};
  }
  if (const RoundSummary* summary = running(state)) out["round"] = round_json(*summary);
  return out;
}

}  // namespace rivulet::coordinator
