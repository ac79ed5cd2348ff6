#include <algorithm>

#include "coordinator/core/handlers.h"
#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"
#include "coordinator/core/views.h"

namespace rivulet::coordinator {
namespace {

using nlohmann::json;

/// A release that was made of another one: whether that is of this fleet, and does the same.
Status check_teacher(const Registry& registry, const Release& release) {
  if (!release.teacher) return {};
  const std::string id = release.teacher->release.hex();
  const std::string number = std::to_string(release.teacher->version);
  const auto of = registry.releases.find(release.teacher->release);
  if (of == registry.releases.end())
    return fail(Errc::refused, "the release names the release " + id + " as its teacher, which this fleet " +
                                   "does not have: make it of one of `rivulet model list`");
  const VersionRecord* version = registry.find(release.teacher->version);
  if (version == nullptr || version->manifest.release != release.teacher->release)
    return fail(Errc::refused, "the release names version " + number + " as its teacher, which is none of " +
                                   "the release " + id + ": see `rivulet model list`");
  const Release& teacher = of->second.release;
  const bool same = teacher.task == release.task && teacher.classes == release.classes &&
                    teacher.architecture.outputs == release.architecture.outputs &&
                    teacher.architecture.input_size() == release.architecture.input_size();
  if (same) return {};
  return fail(Errc::refused,
              "the release has another task, other classes or another input than its teacher, " +
                  ("version " + number));
}

/// A release that may be imported: signed by a release key that is in force, and in order.
Result<ReleaseRecord> open_release(const State& state, const event::ImportRelease& event, const Now& now) {
  const bool is_signed = std::ranges::any_of(state.trust.release_keys, [&](const PublicKey& key) {
    return verify_envelope(key, Context::release, event.release).has_value();
  });
  if (!is_signed) {
    return fail(Errc::refused, "the release is not signed by a release key of this fleet's trust document");
  }
  auto release = decode_release(event.release.payload);
  if (!release) return std::unexpected(release.error());
  if (release->fleet != state.trust.fleet)
    return fail(Errc::refused, "the release was made for another fleet");
  if (release->limits.expires <= now.utc) {
    return fail(Errc::refused,
                "the release expired at " + to_rfc3339(release->limits.expires) + ": make a new one");
  }
  const ReleaseRecord* active = state.registry.active_release();
  if (active != nullptr && active->release.name != release->name) {
    return fail(Errc::conflict, "the fleet trains the model \"" + active->release.name +
                                    "\", and one fleet has one model: import under that name to replace it, "
                                    "or found another fleet for \"" +
                                    release->name + "\"");
  }
  for (const auto& [id, other] : state.registry.releases) {
    if (other.release.epoch > release->epoch) {
      return fail(Errc::refused, "the release has epoch " + std::to_string(release->epoch) + ", but epoch " +
                                     std::to_string(other.release.epoch) +
                                     " is in force: nodes would refuse it");
    }
  }
  if (const Status known = check_teacher(state.registry, *release); !known)
    return std::unexpected(known.error());
  ReleaseRecord record;
  record.id = release_id(event.release.payload);
  record.envelope = event.release;
  record.content = event.release_content;
  record.imported = now.utc;
  record.has_holdout = event.has_holdout;
  record.has_test = event.has_test;
  record.holdout_hash = event.holdout_hash;
  record.test_hash = event.test_hash;
  record.release = std::move(*release);
  return record;
}

/// The newest version of a release that was imported before, or 0.
VersionNumber newest_version(const Registry& registry, const ReleaseId& release) {
  for (auto at = registry.versions.rbegin(); at != registry.versions.rend(); ++at) {
    if (at->second.manifest.release == release) return at->first;
  }
  return 0;
}

bool has_same_data(const ReleaseRecord& one, const ReleaseRecord& other) {
  return one.has_holdout == other.has_holdout && one.has_test == other.has_test &&
         one.holdout_hash == other.holdout_hash && one.test_hash == other.test_hash;
}

json imported_json(const ReleaseRecord& release, VersionNumber version) {
  return {{"release", release.id.hex()}, {"name", release.release.name}, {"version", version}};
}

}  // namespace

void on(Step& step, const event::ImportRelease& event) {
  State& state = step.state;
  // What was stored for it goes again, unless something else names it.
  const auto refuse = [&](std::unexpected<Error> why) {
    step.erase_unreferenced({event.release_content, event.snapshot, event.master, event.optimizer_state});
    step.reply(event.request, std::move(why));
  };
  auto record = open_release(state, event, step.now);
  if (!record) return refuse(std::unexpected(record.error()));
  if (state.registry.active == record->id) {
    if (!has_same_data(*state.registry.active_release(), *record)) {
      return refuse(fail(Errc::conflict,
                         "the release was imported before, with other holdout or test samples, which stay: "
                         "sign it anew to replace them"));
    }
    return step.reply(event.request, imported_json(*record, newest_version(state.registry, record->id)));
  }
  if (state.registry.releases.contains(record->id)) {
    return refuse(
        fail(Errc::conflict, "the release was imported before, and another one since: sign it anew"));
  }
  const auto* publishing = std::get_if<Publishing>(&state.round.phase);
  if (state.registry.pending || (publishing != nullptr && publishing->asked)) {
    return refuse(fail(Errc::busy, "a version is being published: try again in a moment"));
  }
  if (state.storage_full || state.storage_failed) {
    return refuse(fail(Errc::storage_full, "the store takes no writes: make room first"));
  }
  const ManifestParts parts{0, 0, event.snapshot, event.snapshot_bytes, event.weights_hash};
  PendingImport pending;
  pending.request = event.request;
  pending.manifest = next_manifest(state.registry, *record, parts, state.audit.hash, step.now.utc);
  pending.master = event.master;
  pending.optimizer_state = event.optimizer_state;
  pending.release = std::move(*record);
  step.emit(effect::SealVersion{pending.manifest, state.config.validation.variant_tolerance});
  state.registry.pending = std::move(pending);
}

void on(Step& step, const event::ImportFailed& event) {
  step.erase_unreferenced(event.stored);
  step.reply(event.request, std::unexpected(event.error));
}

void finish_import(Step& step, const event::VersionSealed& event) {
  State& state = step.state;
  PendingImport pending = std::move(*state.registry.pending);
  state.registry.pending.reset();
  const ReleaseRecord release = pending.release;
  state.registry.releases[release.id] = std::move(pending.release);
  state.registry.active = release.id;
  step.put("releases", release.id.span(), to_json(release));
  json details = {
      {"release", release.id.hex()}, {"name", release.release.name}, {"epoch", release.release.epoch}};
  if (release.has_holdout) details["holdout"] = release.holdout_hash.hex();
  if (release.has_test) details["test"] = release.test_hash.hex();
  if (const json teacher = teacher_json(release.release); !teacher.is_null()) details["teacher"] = teacher;
  step.audit(operator_actor, "release_imported", std::move(details));
  VersionRecord version;
  version.manifest = event.manifest;
  version.envelope = event.envelope;
  version.master = pending.master;
  version.optimizer_state = pending.optimizer_state;
  version.metrics = event.metrics;
  publish(step, std::move(version), event.left_out);
  const RoundPhase& phase = state.round.phase;
  if (!std::holds_alternative<Idle>(phase) && !std::holds_alternative<Failed>(phase)) {
    end_round(step, Ending::failed, "a new release was imported");
  }
  step.reply(pending.request, imported_json(release, event.manifest.version));
}

}  // namespace rivulet::coordinator
