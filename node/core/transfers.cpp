#include "node/core/transfers.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "models/package/release.h"
#include "node/core/judging.h"
#include "node/core/records.h"
#include "node/core/serving.h"
#include "node/core/work.h"

namespace rivulet::node {
namespace {

/// An envelope around a release payload of the greatest size.
constexpr std::uint64_t release_bytes_max = document_bytes_max + 1024;

std::vector<Need> all_needs(const State& state) {
  std::vector<Need> needs;
  add_task_needs(state, needs);
  add_serving_needs(state, needs);
  return needs;
}

bool needed(const State& state, const ContentId& content) {
  const std::vector<Need> needs = all_needs(state);
  return std::any_of(needs.begin(), needs.end(), [&](const Need& need) { return need.content == content; });
}

void refer(const State& state, const VersionManifest& manifest, std::set<ContentId>& out) {
  out.insert(manifest.release_content);
  out.insert(manifest.snapshot);
  const auto release = state.releases.find(manifest.release);
  if (release != state.releases.end()) out.insert(release->second.initial_weights);
}

std::set<ReleaseId> referenced_releases(const State& state) {
  std::set<ReleaseId> ids;
  for (const auto& [id, task] : state.tasks) ids.insert(task.base.release);
  for (const auto* held : {&state.serving.active, &state.serving.previous, &state.serving.trial}) {
    if (*held) ids.insert((*held)->manifest.release);
  }
  if (state.serving.pending) ids.insert(state.serving.pending->manifest.release);
  return ids;
}

/// The releases that were waited for in this content, verified or refused.
void learn_releases(Turn& turn, const event::ContentReceived& event) {
  State& state = turn.state;
  std::set<ReleaseId> expected;
  for (const auto& [id, task] : state.tasks) {
    if (task.base.release_content == event.content) expected.insert(task.base.release);
  }
  if (state.serving.pending && state.serving.pending->manifest.release_content == event.content) {
    expected.insert(state.serving.pending->manifest.release);
  }
  for (const ReleaseId& id : expected) {
    if (known_release(state, id, event.content) != nullptr) continue;
    auto release = open_release(state, id, event.content, event.bytes);
    if (!release) {
      turn.notice(Level::error, "release_refused",
                  {{"release", id.hex()},
                   {"reason", std::string(name(Reason::bad_manifest))},
                   {"detail", release.error().detail}});
      fail_tasks_with(turn, event.content, Reason::bad_manifest, release.error().detail);
      fail_assignment_with(turn, event.content, Reason::bad_manifest, release.error().detail);
      continue;
    }
    if (release->epoch > state.serving.epoch_floor) {
      state.serving.epoch_floor = release->epoch;
      turn.write(meta_record(state));
    }
    turn.write(release_record(id, *release));
    state.releases[id] = std::move(*release);
  }
}

}  // namespace

void add_need(const State& state, const ContentId& content, std::uint64_t bytes, std::vector<Need>& needs) {
  if (!state.transfers.present.contains(content)) needs.push_back({content, bytes, false});
}

void add_needs(const State& state, const VersionManifest& manifest, std::vector<Need>& needs) {
  const KnownRelease* release = known_release(state, manifest.release, manifest.release_content);
  if (release == nullptr) {
    needs.push_back({manifest.release_content, release_bytes_max, true});
    return;
  }
  add_need(state, manifest.release_content, release_bytes_max, needs);
  add_need(state, release->initial_weights, release->fp32_bytes, needs);
  add_need(state, manifest.snapshot, manifest.snapshot_bytes, needs);
}

std::set<ContentId> referenced_contents(const State& state) {
  std::set<ContentId> contents;
  for (const auto& [id, task] : state.tasks) {
    refer(state, task.base, contents);
    if (task.candidate) contents.insert(task.candidate->snapshot);
    if (task.result) contents.insert(*task.result);
  }
  for (const auto& [id, entry] : state.outbox) {
    if (!entry.content.is_zero()) contents.insert(entry.content);
  }
  for (const auto* held : {&state.serving.active, &state.serving.previous, &state.serving.trial}) {
    if (*held) refer(state, (*held)->manifest, contents);
  }
  if (const auto& pending = state.serving.pending) refer(state, pending->manifest, contents);
  return contents;
}

void on_content_received(Turn& turn, const event::ContentReceived& event) {
  Transfers& transfers = turn.state.transfers;
  if (transfers.in_flight == event.content) transfers.in_flight.reset();
  transfers.retries.erase(event.content);
  if (!needed(turn.state, event.content)) {
    return drop_if_unreferenced(turn, event.content);
  }
  if (transfers.present.insert(event.content).second) turn.write(content_record(event.content));
  learn_releases(turn, event);
}

void on_content_failed(Turn& turn, const event::ContentFailed& event) {
  Transfers& transfers = turn.state.transfers;
  if (transfers.in_flight == event.content) transfers.in_flight.reset();
  if (transfers.present.erase(event.content) != 0) turn.write(content_erasure(event.content));
  turn.notice(
      Level::warning, "content_failed",
      {{"content", event.content.hex()}, {"error", name(event.error.code)}, {"detail", event.error.detail}});
  if (!needed(turn.state, event.content)) return;
  if (event.error.code == Errc::too_large || event.error.code == Errc::refused) {
    const Reason reason = event.error.code == Errc::too_large ? Reason::too_large : Reason::bad_manifest;
    fail_tasks_with(turn, event.content, reason, event.error.detail);
    fail_assignment_with(turn, event.content, reason, event.error.detail);
    return;
  }
  const Config& config = turn.state.config;
  Transfers::Retry& retry = transfers.retries[event.content];
  std::chrono::nanoseconds wait = config.backoff_min;
  for (std::uint32_t i = 0; i < retry.attempts && wait < config.backoff_max; ++i) wait *= 2;
  retry.at = turn.now.monotonic + std::min<std::chrono::nanoseconds>(wait, config.backoff_max);
  ++retry.attempts;
}

void forget_damaged(Turn& turn, const std::vector<ContentId>& contents) {
  for (const ContentId& content : contents) {
    turn.notice(Level::error, "content_damaged",
                {{"content", content.hex()}, {"reason", std::string(name(Reason::corrupt_content))}});
    if (turn.state.transfers.present.erase(content) != 0) turn.write(content_erasure(content));
    turn.emit(effect::DropContent{content, true});
  }
}

void drop_if_unreferenced(Turn& turn, const ContentId& content) {
  if (!referenced_contents(turn.state).contains(content)) turn.emit(effect::DropContent{content});
}

void collect_garbage(Turn& turn) {
  State& state = turn.state;
  const std::set<ReleaseId> releases = referenced_releases(state);
  for (auto it = state.releases.begin(); it != state.releases.end();) {
    if (releases.contains(it->first)) {
      ++it;
      continue;
    }
    turn.write(release_erasure(it->first));
    it = state.releases.erase(it);
  }
  const std::set<ContentId> contents = referenced_contents(state);
  auto& present = state.transfers.present;
  for (auto it = present.begin(); it != present.end();) {
    if (contents.contains(*it)) {
      ++it;
      continue;
    }
    turn.write(content_erasure(*it));
    turn.emit(effect::DropContent{*it});
    it = present.erase(it);
  }
  // Parts of what was never fetched whole.
  std::erase_if(state.transfers.retries, [&](const auto& retry) {
    if (contents.contains(retry.first)) return false;
    turn.emit(effect::DropContent{retry.first});
    return true;
  });
}

void settle_transfers(Turn& turn) {
  State& state = turn.state;
  Transfers& transfers = state.transfers;
  const std::vector<Need> needs = all_needs(state);
  const auto wanted = [&](const ContentId& content) {
    return std::any_of(needs.begin(), needs.end(), [&](const Need& need) { return need.content == content; });
  };
  if (transfers.in_flight && !wanted(*transfers.in_flight)) {
    drop_if_unreferenced(turn, *transfers.in_flight);
    transfers.in_flight.reset();
  }
  if (!online(state) || (transfers.in_flight && transfers.issued)) return;
  for (const Need& need : needs) {
    if (transfers.in_flight && need.content != *transfers.in_flight) continue;
    const auto retry = transfers.retries.find(need.content);
    if (retry != transfers.retries.end() && retry->second.at > turn.now.monotonic) continue;
    transfers.in_flight = need.content;
    transfers.issued = true;
    turn.emit(effect::Fetch{need.content, need.max_bytes, need.want_bytes});
    return;
  }
}

void restart_transfers(State& state) {
  state.transfers.issued = false;
  for (auto& [content, retry] : state.transfers.retries) retry.at = {};
}

std::optional<MonotonicTime> transfers_deadline(const State& state) {
  const Transfers& transfers = state.transfers;
  if (!online(state) || (transfers.in_flight && transfers.issued)) return std::nullopt;
  std::optional<MonotonicTime> next;
  for (const auto& [content, retry] : transfers.retries) {
    if (needed(state, content)) next = next ? std::min(*next, retry.at) : retry.at;
  }
  return next;
}

}  // namespace rivulet::node
