#include "node/core/serving.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "node/core/judging.h"
#include "node/core/link.h"
#include "node/core/records.h"
#include "protocol/text.h"

namespace rivulet::node {
namespace {

Fields fields_of(const VersionManifest& manifest) {
  return {{"version", fmt::to_string(manifest.version)},
          {"manifest", fmt::to_string(manifest.manifest_version)}};
}

Fields with(Fields fields, std::string key, std::string value) {
  fields.emplace_back(std::move(key), std::move(value));
  return fields;
}

/// Told in this session or the next; the caller has the meta record written.
void set_outcome(Turn& turn, const VersionManifest& manifest, Reason outcome, const std::string& detail) {
  turn.state.serving.outcome = message::Activation{.version = manifest.version,
                                                   .manifest_version = manifest.manifest_version,
                                                   .outcome = outcome,
                                                   .detail = to_printable(detail, detail_bytes_max)};
  if (auto* session = std::get_if<Online>(&turn.state.link.phase)) session->outcome_told.reset();
}

void notice_refused(Turn& turn, Fields fields, Reason reason, const std::string& detail) {
  fields = with(std::move(fields), "reason", std::string(name(reason)));
  turn.notice(Level::error, "assignment_refused", with(std::move(fields), "detail", detail));
}

void refuse_assignment(Turn& turn, const VersionManifest& manifest, Reason outcome,
                       const std::string& detail) {
  notice_refused(turn, fields_of(manifest), outcome, detail);
  set_outcome(turn, manifest, outcome, detail);
  Serving& serving = turn.state.serving;
  if (serving.pending && serving.pending->manifest.manifest_version == manifest.manifest_version) {
    serving.pending.reset();
    turn.write(manifest_erasure("pending"));
    turn.collect = true;
  }
  turn.write(meta_record(turn.state));
}

Reason reason_of(const Error& error) {
  return error.code == Errc::too_large ? Reason::too_large : Reason::bad_manifest;
}

bool trying(const Serving& serving, const Pending& pending) {
  return serving.trial && serving.trial->manifest.manifest_version == pending.manifest.manifest_version;
}

/// Whether the newest assignment takes back what is tried: it names an older version.
bool withdrawn(const Serving& serving) {
  return serving.trial && serving.pending && !trying(serving, *serving.pending) &&
         serving.pending->manifest.version < serving.trial->manifest.version;
}

bool same_model(const Held& a, const Held& b) {
  return a.manifest.weights_hash == b.manifest.weights_hash && a.manifest.release == b.manifest.release;
}

/// The one to return to: what the new manifest names, if it is at hand, else the one that served last.
void choose_previous(Serving& serving, const Held& next) {
  const bool whole = serving.service != Service::failed && serving.service != Service::waiting;
  if (!serving.active || !whole || same_model(*serving.active, next)) return;
  const auto& named = next.manifest.fallback;
  const bool keep = named && serving.previous && serving.previous->manifest.version == named->version &&
                    serving.previous->manifest.weights_hash == named->weights_hash;
  if (!keep) serving.previous = serving.active;
}

void write_held(Turn& turn) {
  const Serving& serving = turn.state.serving;
  if (serving.active) turn.write(active_record(serving));
  if (serving.previous) {
    turn.write(previous_record(*serving.previous));
  } else {
    turn.write(manifest_erasure("previous"));
  }
  turn.write(meta_record(turn.state));
}

void end_trial(Turn& turn) {
  Serving& serving = turn.state.serving;
  if (serving.pending && trying(serving, *serving.pending)) {
    serving.pending.reset();
    turn.write(manifest_erasure("pending"));
  }
  serving.trial.reset();
  turn.collect = true;
}

void activate(Turn& turn, const Held& held, effect::Activate::Kind kind) {
  turn.emit(effect::Activate{kind, held.manifest, held.variant});
}

std::string without_end(std::uint32_t attempts) {
  return fmt::format("it was begun {} times, and none came to an end: is there memory enough?", attempts);
}

/// Has `active` loaded. The attempt is durable before it begins.
void restore(Turn& turn) {
  Serving& serving = turn.state.serving;
  serving.service = Service::loading;
  ++serving.attempts;
  turn.write(active_record(serving));
  activate(turn, *serving.active, effect::Activate::Kind::restoration);
}

/// Loading `active` has come to an end, good or bad.
void end_attempts(Turn& turn) {
  turn.state.serving.attempts = 0;
  turn.write(active_record(turn.state.serving));
}

/// Whether this node has tried and served the very weights before, and a newer assignment returns to them.
bool returns_to(const Serving& serving, const VersionManifest& manifest) {
  return serving.active && serving.previous && manifest.version < serving.active->manifest.version &&
         manifest.version == serving.previous->manifest.version &&
         manifest.weights_hash == serving.previous->manifest.weights_hash;
}

void try_pending(Turn& turn) {
  Serving& serving = turn.state.serving;
  Pending& pending = *serving.pending;
  if (pending.attempts >= turn.state.config.attempts_max) {
    const VersionManifest refused = pending.manifest;
    return refuse_assignment(turn, refused, Reason::not_loadable, without_end(pending.attempts));
  }
  ++pending.attempts;
  turn.write(pending_record(pending));
  serving.trial = Held{pending.manifest, pending.variant};
  const bool known = returns_to(serving, pending.manifest);
  activate(turn, *serving.trial, known ? effect::Activate::Kind::rollback : effect::Activate::Kind::trial);
}

/// What was tried is not served, and nothing is said of how the trial ended.
void end_withdrawn(Turn& turn) {
  Serving& serving = turn.state.serving;
  turn.notice(Level::info, "trial_withdrawn", fields_of(serving.trial->manifest));
  serving.trial.reset();
  turn.collect = true;
}

std::vector<Need> missing_of(const State& state, const Held& held) {
  std::vector<Need> needs;
  add_needs(state, held.manifest, needs);
  return needs;
}

/// `active` can't serve: returns to `previous`, if there is one. What failed is not tried again.
void fall_back(Turn& turn, const std::string& detail) {
  Serving& serving = turn.state.serving;
  const VersionManifest failed = serving.active->manifest;
  set_outcome(turn, failed, Reason::not_loadable, detail);
  turn.emit(effect::Unload{});
  if (!serving.previous) {
    serving.service = Service::failed;
    end_attempts(turn);  // The next start may find what this one lacked.
    turn.notice(
        Level::error, "no_model_serves",
        with(with(fields_of(failed), "reason", std::string(name(Reason::not_loadable))), "detail", detail));
    turn.write(meta_record(turn.state));
    return;
  }
  const auto& named = failed.fallback;
  const bool authorised = named && named->version == serving.previous->manifest.version;
  serving.active = std::exchange(serving.previous, std::nullopt);
  serving.attempts = 0;
  serving.damages = 0;
  turn.notice(Level::error, "fell_back",
              {{"from", fmt::to_string(failed.version)},
               {"to", fmt::to_string(serving.active->manifest.version)},
               {"named_by_manifest", authorised ? "yes" : "no"},
               {"reason", std::string(name(Reason::not_loadable))},
               {"detail", detail}});
  restore(turn);
  write_held(turn);
  turn.collect = true;
}

}  // namespace

VersionNumber served_version(const State& state) {
  const Serving& serving = state.serving;
  const bool serves = serving.service != Service::failed && serving.service != Service::waiting;
  return serving.active && serves ? serving.active->manifest.version : 0;
}

bool activation_pressing(const State& state) {
  const Serving& serving = state.serving;
  if (serving.service == Service::loading) return true;
  return serving.trial &&
         (serving.service != Service::loaded || returns_to(serving, serving.trial->manifest));
}

bool wants_activation(const State& state, std::uint64_t manifest_version) {
  const Serving& serving = state.serving;
  if (serving.trial && serving.trial->manifest.manifest_version == manifest_version)
    return !withdrawn(serving);
  return serving.service == Service::loading && serving.active->manifest.manifest_version == manifest_version;
}

void on_assignment(Turn& turn, const message::Assignment& assignment) {
  State& state = turn.state;
  Serving& serving = state.serving;
  auto manifest = open_version(state, assignment.manifest);
  if (!manifest) {
    return notice_refused(turn, {}, Reason::bad_manifest, manifest.error().detail);
  }
  if (manifest->manifest_version == serving.highest_manifest) return;
  if (manifest->manifest_version < serving.highest_manifest) {
    const std::string detail = fmt::format("manifest {} was superseded by {}: rolled back",
                                           manifest->manifest_version, serving.highest_manifest);
    return notice_refused(turn, fields_of(*manifest), Reason::bad_manifest, detail);
  }
  if (trust_expired(state, turn.now.utc)) {
    turn.notice(Level::error, "trust_expired",
                with(with(fields_of(*manifest), "reason", std::string(name(Reason::untrusted))), "detail",
                     "no new version before 'rivulet trust renew'"));
    return;
  }
  const Status sound = check_manifest(state, *manifest);
  if (!sound && sound.error().code != Errc::too_large) {
    return notice_refused(turn, fields_of(*manifest), Reason::bad_manifest, sound.error().detail);
  }
  serving.highest_manifest = manifest->manifest_version;
  turn.notice(Level::info, "assigned", fields_of(*manifest));
  serving.pending = Pending{.manifest = std::move(*manifest)};
  if (!sound) {
    const VersionManifest refused = serving.pending->manifest;
    return refuse_assignment(turn, refused, Reason::too_large, sound.error().detail);
  }
  turn.write(pending_record(*serving.pending));
  turn.write(meta_record(state));
  turn.collect = true;
}

void on_activation_done(Turn& turn, const event::ActivationDone& event) {
  Serving& serving = turn.state.serving;
  if (serving.trial && serving.trial->manifest.manifest_version == event.manifest_version) {
    const Held next = *serving.trial;
    const bool restoring = serving.service == Service::loading;
    choose_previous(serving, next);
    serving.active = next;
    serving.service = Service::loaded;
    serving.damages = 0;
    serving.attempts = 0;
    set_outcome(turn, next.manifest, Reason::activated, {});
    end_trial(turn);
    write_held(turn);
    turn.notice(Level::info, "activated", with(fields_of(next.manifest), "variant", next.variant));
    // A restoration that was asked for during the trial comes after it and would win.
    if (restoring) restore(turn);
    return;
  }
  if (serving.active && serving.active->manifest.manifest_version == event.manifest_version &&
      serving.service == Service::loading) {
    serving.service = Service::loaded;
    serving.damages = 0;
    end_attempts(turn);
    turn.notice(Level::info, "restored", fields_of(serving.active->manifest));
  }
}

void on_activation_failed(Turn& turn, const event::ActivationFailed& event) {
  Serving& serving = turn.state.serving;
  const std::uint32_t attempts_max = turn.state.config.attempts_max;
  forget_damaged(turn, event.damaged);
  if (serving.trial && serving.trial->manifest.manifest_version == event.manifest_version) {
    if (withdrawn(serving)) return end_withdrawn(turn);
    if (!event.damaged.empty() && serving.pending && trying(serving, *serving.pending) &&
        ++serving.pending->damages < attempts_max) {
      serving.trial.reset();  // It is tried again with whole content.
      --serving.pending->attempts;
      turn.write(pending_record(*serving.pending));
      return;
    }
    const VersionManifest failed = serving.trial->manifest;
    set_outcome(turn, failed, event.reason, event.detail);
    end_trial(turn);
    turn.write(meta_record(turn.state));
    turn.notice(
        Level::warning, "activation_failed",
        with(with(fields_of(failed), "reason", std::string(name(event.reason))), "detail", event.detail));
    return;
  }
  if (serving.active && serving.active->manifest.manifest_version == event.manifest_version &&
      serving.service == Service::loading) {
    const bool can_return = serving.previous && missing_of(turn.state, *serving.previous).empty();
    if (!event.damaged.empty() && !can_return && ++serving.damages < attempts_max) {
      serving.service = Service::waiting;
      end_attempts(turn);
      return;
    }
    fall_back(turn, event.detail);
  }
}

void on_active_model_failed(Turn& turn, const event::ActiveModelFailed& event) {
  Serving& serving = turn.state.serving;
  if (!serving.active || serving.active->manifest.manifest_version != event.manifest_version) return;
  if (serving.service == Service::loaded) fall_back(turn, event.detail);
}

void start_serving(Turn& turn) {
  Serving& serving = turn.state.serving;
  if (!serving.active) return;
  if (serving.attempts < turn.state.config.attempts_max) return restore(turn);
  fall_back(turn, without_end(serving.attempts));
}

void stop_serving(Turn& turn) {
  Serving& serving = turn.state.serving;
  if (serving.service == Service::loading && serving.attempts > 0) {
    --serving.attempts;
    turn.write(active_record(serving));
  }
  if (serving.pending && trying(serving, *serving.pending) && serving.pending->attempts > 0) {
    --serving.pending->attempts;
    turn.write(pending_record(*serving.pending));
  }
}

void settle_serving(Turn& turn) {
  State& state = turn.state;
  Serving& serving = state.serving;
  if (serving.pending && !serving.pending->judged) {
    Pending& pending = *serving.pending;
    const KnownRelease* release =
        known_release(state, pending.manifest.release, pending.manifest.release_content);
    if (release != nullptr) {
      const Status allowed = check_allowed(state, *release, pending.manifest, turn.now.utc);
      const auto variant = allowed ? choose_variant(state, *release, pending.manifest)
                                   : Result<std::string>(std::unexpected(allowed.error()));
      if (variant) {
        pending.judged = true;
        pending.variant = *variant;
      } else {
        const VersionManifest refused = pending.manifest;
        refuse_assignment(turn, refused, reason_of(variant.error()), variant.error().detail);
      }
    }
  }
  if (serving.service == Service::waiting && missing_of(state, *serving.active).empty()) start_serving(turn);
  if (serving.pending && serving.pending->judged && !serving.trial && serving.service != Service::loading) {
    if (missing_of(state, {serving.pending->manifest, serving.pending->variant}).empty()) try_pending(turn);
  }
  auto* session = std::get_if<Online>(&state.link.phase);
  if (session != nullptr && serving.outcome && !session->outcome_told) {
    session->outcome_told = turn.now.monotonic;
    turn.send(*serving.outcome);
  }
}

void add_serving_needs(const State& state, std::vector<Need>& needs) {
  const Serving& serving = state.serving;
  if (serving.service == Service::waiting) add_needs(state, serving.active->manifest, needs);
  if (!serving.pending || trying(serving, *serving.pending)) return;
  // The variant is not fetched: the node makes it of the snapshot by the release's recipe.
  add_needs(state, serving.pending->manifest, needs);
}

void fail_assignment_with(Turn& turn, const ContentId& content, Reason reason, const std::string& detail) {
  const auto concerns = [&](const VersionManifest& manifest) {
    std::vector<Need> needs;
    add_needs(turn.state, manifest, needs);
    return std::any_of(needs.begin(), needs.end(), [&](const Need& need) { return need.content == content; });
  };
  Serving& serving = turn.state.serving;
  if (serving.service == Service::waiting && concerns(serving.active->manifest)) fall_back(turn, detail);
  if (!serving.pending || trying(serving, *serving.pending) || !concerns(serving.pending->manifest)) return;
  const VersionManifest refused = serving.pending->manifest;
  refuse_assignment(turn, refused, reason, detail);
}

}  // namespace rivulet::node
