#include <algorithm>

#include "coordinator/core/handlers.h"
#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"

namespace rivulet::coordinator {
namespace {

using effect::Level;
using nlohmann::json;

/// Whether `sealed` is what was asked for, with variants.
bool answers(const VersionManifest& asked, VersionManifest sealed) {
  sealed.variants.clear();
  sealed.reference.clear();
  return sealed == asked;
}

std::vector<Contribution> contributions_of(const SealedSet& sealed) {
  std::vector<Contribution> out;
  out.reserve(sealed.updates.size());
  for (std::size_t k = 0; k < sealed.updates.size(); ++k) {
    const UpdateRecord& update = sealed.updates[k];
    out.push_back({update.task, update.node, update.content, update.sample_count, sealed.entries[k].weight,
                   sealed.entries[k].scale});
  }
  return out;
}

void finish_round(Step& step, const event::VersionSealed& event) {
  State& state = step.state;
  const Publishing phase = std::move(std::get<Publishing>(state.round.phase));
  VersionRecord version;
  version.manifest = event.manifest;
  version.envelope = event.envelope;
  version.master = phase.candidate.master;
  version.optimizer_state = phase.candidate.optimizer_state;
  version.metrics = phase.metrics;
  version.updates = contributions_of(phase.sealed);
  state.round.phase = Idle{};
  publish(step, std::move(version), event.left_out);

  std::vector<ContentId> contents;
  for (const UpdateRecord& update : phase.sealed.updates) {
    give_verdict(step, update, Reason::none, event.manifest.version);
    contents.push_back(update.content);
  }
  step.erase_unreferenced(contents);
  state.round.summary.version = event.manifest.version;
  close_round(step, "published", "");
  if (state.schedule.refusals != 0 || state.schedule.failures != 0) {
    state.schedule.refusals = 0;
    state.schedule.failures = 0;
    step.put("meta", bytes_of("schedule"), to_json(state.schedule));
  }
  reply_to_waiters(step, state.round.plan.round);
}

}  // namespace

void put_registry(Step& step) {
  const Registry& registry = step.state.registry;
  json record = {{"head", registry.head}, {"manifest_version", registry.manifest_version}};
  if (registry.active) record["active"] = registry.active->hex();
  step.put("meta", bytes_of("registry"), record);
}

void publish(Step& step, VersionRecord version, const std::vector<LeftOut>& left_out) {
  State& state = step.state;
  Registry& registry = state.registry;
  const VersionNumber number = version.manifest.version;
  step.put("versions", number_key(number), to_json(version));
  version.updates = {};
  version.steps = steps_after(registry, version.manifest.parent);
  registry.head = number;
  registry.assigned = number;
  registry.manifest_version = version.manifest.manifest_version;
  put_registry(step);
  step.put("assignment", bytes_of("all"), json{{"version", number}});
  json details = {{"version", number},
                  {"manifest_version", version.manifest.manifest_version},
                  {"round", version.manifest.round},
                  {"release", version.manifest.release.hex()},
                  {"weights_hash", version.manifest.weights_hash.hex()}};
  for (const LeftOut& one : left_out) {
    details["left_out"][one.what] = one.why;
    step.notice(Level::warning, "variant_left_out", "",
                {{"version", std::to_string(number)}, {"variant", one.what}, {"detail", one.why}});
  }
  step.audit(coordinator_actor, "version_published", std::move(details));
  step.notice(Level::info, "version_published", "",
              {{"version", std::to_string(number)}, {"round", std::to_string(version.manifest.round)}});
  for (const auto& [key, node] : state.fleet.nodes) {
    if (node.ready) step.send(node, message::Assignment{version.envelope});
  }
  registry.versions[number] = std::move(version);
  step.erase_unreferenced(drop_old_versions(registry, state.config.limits.versions_kept));
}

void enter_publishing(Step& step, SealedSet sealed, CandidateBuilt candidate,
                      std::optional<Metrics> metrics) {
  State& state = step.state;
  state.round.summary.state = "publishing";
  const auto interval = state.registry.releases.at(state.round.plan.release).release.limits.min_interval;
  const UtcTime last = state.registry.find(state.round.plan.base)->manifest.created;
  state.round.phase = Publishing{std::move(sealed), std::move(candidate), std::move(metrics),
                                 Deadline::restored(last + interval, interval, step.now), std::nullopt};
  put_round(step);
}

bool advance(Step& step, Publishing& phase) {
  State& state = step.state;
  if (phase.asked || state.registry.pending || !phase.not_before.passed(step.now)) return false;
  if (const Status status = may_publish(state, step.now); !status) {
    step.notice(Level::error, "publication_refused", "", {{"detail", status.error().detail}});
    end_round(step, Ending::failed, status.error().detail);
    return true;
  }
  const RoundPlan& plan = state.round.plan;
  const ManifestParts parts{plan.round, plan.base, phase.candidate.snapshot, phase.candidate.snapshot_bytes,
                            phase.candidate.weights_hash};
  phase.asked = next_manifest(state.registry, state.registry.releases.at(plan.release), parts,
                              state.audit.hash, step.now.utc);
  step.emit(effect::SealVersion{*phase.asked, plan.validation.variant_tolerance});
  return false;
}

void on(Step& step, const event::VersionSealed& event) {
  State& state = step.state;
  if (state.registry.pending && answers(state.registry.pending->manifest, event.manifest)) {
    return finish_import(step, event);
  }
  const auto* phase = std::get_if<Publishing>(&state.round.phase);
  if (phase != nullptr && phase->asked && answers(*phase->asked, event.manifest))
    return finish_round(step, event);
  // Of a candidate that was dropped meanwhile: nobody has seen this manifest.
  step.notice(Level::info, "sealed_version_dropped", "",
              {{"manifest_version", std::to_string(event.manifest.manifest_version)}});
  std::vector<ContentId> contents;
  for (const VariantInfo& variant : event.manifest.variants) contents.push_back(variant.content);
  step.erase_unreferenced(contents);
}

void on(Step& step, const event::PublicationFailed& event) {
  State& state = step.state;
  step.erase_unreferenced(event.stored);
  if (state.registry.pending && state.registry.pending->manifest.manifest_version == event.manifest_version) {
    const PendingImport pending = std::move(*state.registry.pending);
    state.registry.pending.reset();
    step.erase_unreferenced({pending.release.content, pending.release.release.initial_weights,
                             pending.manifest.snapshot, pending.master, pending.optimizer_state});
    return step.reply(pending.request, std::unexpected(event.error));
  }
  auto* phase = std::get_if<Publishing>(&state.round.phase);
  if (phase == nullptr || !phase->asked || phase->asked->manifest_version != event.manifest_version) return;
  if (event.error.code == Errc::storage_full) {
    phase->asked.reset();  // Asked again once StorageState tells of room.
    state.storage_full = true;
    return step.notice(Level::warning, "publication_failed", name(event.error.code),
                       {{"detail", event.error.detail}});
  }
  state.schedule.refusals = 0;  // Its candidate passed.
  end_failed_work(step, "publication", event.error);
}

}  // namespace rivulet::coordinator
