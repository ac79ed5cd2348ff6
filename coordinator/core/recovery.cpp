#include <algorithm>

#include "coordinator/core/coordinator.h"
#include "coordinator/core/json_fields.h"
#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"

namespace rivulet::coordinator {
namespace {

using json_fields::get;
using nlohmann::json;

constexpr int format_known = 1;
constexpr std::string_view trust_prefix = "trust/";

/// What the store holds of the round in progress, before it is put together.
struct Pieces {
  std::optional<RoundRecord> last;
  std::vector<TaskRecord> tasks;
  std::vector<UpdateRecord> updates;
};

/// Reads one family; the first record that is wrong ends it, named by family and key.
class Loader {
 public:
  explicit Loader(const Store& store) : store_(store) {}

  /// @param from the first key that is read.
  template <typename Take>
  Status raw(std::string_view family, Take take, ByteSpan from = {}) {
    Status result;
    const auto visit = [&](ByteSpan key, ByteSpan value) {
      result = named(family, key, take(key, value));
      return result.has_value();
    };
    const Status scanned = store_.scan(family, {}, visit, from);
    return scanned ? result : scanned;
  }

  template <typename Take>
  Status last(std::string_view family, Take take) {
    const auto entry = store_.last(family);
    if (!entry) return std::unexpected(entry.error());
    return *entry ? named(family, (*entry)->key, take((*entry)->key, (*entry)->value)) : Status();
  }

  template <typename Record, typename Take>
  Status records(std::string_view family, Take take, ByteSpan from = {}) {
    const auto parse = [&](ByteSpan, ByteSpan value) -> Status {
      auto record = parse_record<Record>(value);
      if (!record) return std::unexpected(record.error());
      take(std::move(*record));
      return {};
    };
    return raw(family, parse, from);
  }

 private:
  static Status named(std::string_view family, ByteSpan key, const Status& taken) {
    if (taken) return taken;
    return fail(taken.error().code, "store, family " + std::string(family) + ", key " + to_hex(key) + ": " +
                                        taken.error().detail);
  }

  const Store& store_;
};

Result<json> parse_object(ByteSpan value) {
  return json_fields::parse<json>(value, [](const json& in) { return in; });
}

Status take_trust(State& state, ByteSpan value) {
  auto trust = parse_record<SignedTrust>(value);
  if (!trust) return std::unexpected(trust.error());
  auto document = decode_trust(trust->payload);
  if (!document) return std::unexpected(document.error());
  state.trust = std::move(*document);
  state.trust_chain.push_back(std::move(*trust));
  return {};
}

Status take_meta(State& state, bool& founded, ByteSpan key, ByteSpan value) {
  const std::string_view name = text_of(key);
  if (name.starts_with(trust_prefix)) return take_trust(state, value);
  if (name == "schedule") {
    auto schedule = parse_record<Schedule>(value);
    if (!schedule) return std::unexpected(schedule.error());
    state.schedule = std::move(*schedule);
    return {};
  }
  const auto object = parse_object(value);
  if (!object) return std::unexpected(object.error());
  try {
    if (name == "fleet") {
      founded = true;
      state.seed = get<std::uint64_t>(*object, "seed");
      if (get<int>(*object, "format") > format_known) {
        return fail(Errc::unsupported, "was written by a newer rivulet-coordinator: update this one");
      }
    } else if (name == "registry") {
      state.registry.head = get<VersionNumber>(*object, "head");
      state.registry.manifest_version = get<std::uint64_t>(*object, "manifest_version");
      if (object->contains("active"))
        state.registry.active = json_fields::get_id<ReleaseId>(*object, "active");
    }
  } catch (const std::exception& error) {
    return fail(Errc::corrupt, error.what());
  }
  return {};
}

Status load_fleet(State& state, Loader& loader) {
  Status status = loader.records<NodeRecord>("nodes", [&](NodeRecord record) {
    if (record.state == NodeState::active) ++state.fleet.active;
    const PublicKey key = record.key;
    state.fleet.nodes[key].record = std::move(record);
  });
  if (!status) return status;
  return loader.records<TokenRecord>(
      "tokens", [&](const TokenRecord& record) { state.fleet.tokens[record.secret_hash] = record; });
}

/// Counts the steps of each version, parents first.
Status trace_lineage(Registry& registry) {
  for (auto& [number, version] : registry.versions) {
    const VersionNumber parent = version.manifest.parent;
    if (parent != 0 && registry.find(parent) == nullptr) {
      return fail(Errc::corrupt, "store: version " + std::to_string(parent) +
                                     " is not there, the parent of " + std::to_string(number));
    }
    version.steps = steps_after(registry, parent);
  }
  return {};
}

Status load_registry(State& state, Loader& loader) {
  Status status = loader.records<ReleaseRecord>("releases", [&](ReleaseRecord record) {
    const ReleaseId id = record.id;
    state.registry.releases[id] = std::move(record);
  });
  if (!status) return status;
  status = loader.records<VersionRecord>("versions", [&](VersionRecord record) {
    record.updates = {};
    const VersionNumber number = record.manifest.version;
    state.registry.versions[number] = std::move(record);
  });
  if (status) status = trace_lineage(state.registry);
  if (!status) return status;
  status = loader.raw("assignment", [&](ByteSpan key, ByteSpan value) -> Status {
    const auto object = parse_object(value);
    if (!object) return std::unexpected(object.error());
    if (text_of(key) == "all") state.registry.assigned = object->value("version", VersionNumber{0});
    return {};
  });
  if (!status) return status;
  const Registry& registry = state.registry;
  if ((registry.head != 0 && registry.find(registry.head) == nullptr) ||
      (registry.assigned != 0 && registry.find(registry.assigned) == nullptr) ||
      (registry.active && registry.active_release() == nullptr)) {
    return fail(Errc::corrupt, "store: the registry names a version or a release that is not there");
  }
  drop_old_versions(state.registry, state.config.limits.versions_kept);  // The start-up sweep erases them.
  return {};
}

Status load_verdicts(State& state, Loader& loader) {
  return loader.records<VerdictRecord>("verdicts", [&](const VerdictRecord& record) {
    state.verdicts[record.task] = record;
    if (state.verdicts_by_round.empty() || state.verdicts_by_round.back().first != record.round) {
      state.verdicts_by_round.emplace_back(record.round, std::vector<TaskId>());
    }
    state.verdicts_by_round.back().second.push_back(record.task);
  });
}

Status load_audit(State& state, Loader& loader) {
  return loader.last("audit", [&](ByteSpan key, ByteSpan value) -> Status {
    const auto entry = parse_object(value);
    if (!entry) return std::unexpected(entry.error());
    const auto seq = number_of_key(key);
    const auto hash = Digest::from_hex(entry->value("hash", std::string()));
    if (!seq || !hash) return fail(Errc::corrupt, "is not an audit entry");
    state.audit = AuditHead{*seq, *hash};
    return {};
  });
}

Status load_round(State& state, Loader& loader, Pieces& pieces) {
  const auto take = [&](RoundRecord record) {
    if (pieces.last) state.rounds.push_back(pieces.last->summary);
    pieces.last = std::move(record);
  };
  const RoundNumber newest = state.schedule.last_started;
  const RoundNumber listed = state.config.limits.rounds_listed;
  Status status =
      loader.records<RoundRecord>("rounds", take, number_key(newest > listed ? newest - listed + 1 : 0));
  if (!status) return status;
  status =
      loader.records<TaskRecord>("tasks", [&](const TaskRecord& record) { pieces.tasks.push_back(record); });
  if (!status) return status;
  return loader.records<UpdateRecord>("updates",
                                      [&](const UpdateRecord& record) { pieces.updates.push_back(record); });
}

bool is_over(const RoundSummary& summary) {
  return summary.state == "published" || summary.state == "refused" || summary.state == "failed";
}

void restore_training(State& state, const Pieces& pieces, Now now) {
  Training training;
  Round& round = state.round;
  training.deadline = Deadline::restored(pieces.last->deadline, round.plan.config.deadline, now);
  for (const TaskRecord& task : pieces.tasks) {
    if (task.type != message::TaskType::train) continue;
    Training::Invited& invited = training.tasks[task.id];
    invited.node = task.node;
    if (task.refused) {
      invited.state = Training::TaskState::refused;
      invited.refusal = *task.refused;
      ++round.summary.refused;
    }
    if (!task.declined) continue;
    invited.state = Training::TaskState::declined;
    invited.refusal = *task.declined;
    ++round.summary.declined;
  }
  // The order of acceptance goes on behind everything that was accepted, with or without a verdict.
  std::uint64_t accepted = 0;
  if (!state.verdicts_by_round.empty() && state.verdicts_by_round.back().first == round.plan.round) {
    accepted = state.verdicts_by_round.back().second.size();
  }
  accepted += pieces.updates.size();
  for (const UpdateRecord& update : pieces.updates) {
    accepted = std::max(accepted, update.order + 1);
    round.summary.upload_bytes += update.content_bytes;
    training.tasks[update.task] = {update.node, Training::TaskState::accepted, {}};
    training.accepted[update.task] = update;
  }
  round.summary.accepted = accepted;
  for (auto& [id, invited] : training.tasks) {
    if (invited.state != Training::TaskState::open) continue;
    Node* node = state.fleet.find(invited.node);
    if (node == nullptr || node->record.state != NodeState::active) {
      invited.state = Training::TaskState::withdrawn;
      continue;
    }
    ++training.open;
    node->task = id;
  }
  round.phase = std::move(training);
}

void restore_gating(State& state, const Pieces& pieces, SealedSet sealed, Now now) {
  Gating gating;
  gating.sealed = std::move(sealed);
  gating.candidate = *pieces.last->candidate;
  gating.deadline = Deadline::restored(pieces.last->deadline, state.round.plan.validation.deadline, now);
  for (const TaskRecord& task : pieces.tasks) {
    if (task.type != message::TaskType::evaluate) continue;
    gating.evaluators[task.id] = task;
    if (task.report) {
      ++gating.reports;
    } else if (task.declined) {
      ++state.round.summary.declined;
    } else if (Node* node = state.fleet.find(task.node)) {
      node->task = task.id;
    }
  }
  state.round.phase = std::move(gating);
}

/// Puts the round in progress together, as it was after the last transition that was committed.
Status restore_phase(State& state, const Pieces& pieces, Now now) {
  const bool over = !pieces.last || is_over(pieces.last->summary);
  if (pieces.last) {
    state.round.plan = pieces.last->plan;
    state.round.summary = pieces.last->summary;
    if (over) state.rounds.push_back(pieces.last->summary);
  }
  for (const UpdateRecord& update : pieces.updates) {
    if (over || update.round != state.round.plan.round) {
      return fail(Errc::corrupt, "store: update " + update.task.hex() + " of round " +
                                     std::to_string(update.round) + " has no verdict, but its round is over");
    }
  }
  if (over) return {};
  const std::string& phase = state.round.summary.state;
  const RoundPlan& plan = state.round.plan;
  const RoundRecord& record = *pieces.last;
  if (phase == "selecting") {
    state.round.phase = Selecting{Deadline::restored(record.patience, plan.config.selection_patience, now),
                                  Deadline::restored(record.deadline, plan.config.selection_deadline, now)};
    return {};
  }
  if (phase == "training") {
    restore_training(state, pieces, now);
    return {};
  }
  if (!state.registry.releases.contains(plan.release) || state.registry.find(plan.base) == nullptr) {
    return fail(Errc::corrupt, "store: round " + std::to_string(plan.round) +
                                   " names a release or version that is not there");
  }
  SealedSet sealed = seal_set(record.attempt, pieces.updates, plan);
  if (phase == "aggregating") {
    state.round.phase = Aggregating{std::move(sealed), false};
    return {};
  }
  if (!record.candidate || (phase != "gating" && phase != "publishing")) {
    return fail(Errc::corrupt, "store: round " + std::to_string(plan.round) +
                                   " is in no phase that can go on: '" + phase + "'");
  }
  if (phase == "gating") {
    restore_gating(state, pieces, std::move(sealed), now);
    return {};
  }
  const auto interval = state.registry.releases.at(plan.release).release.limits.min_interval;
  state.round.phase = Publishing{std::move(sealed), *record.candidate, state.round.summary.metrics,
                                 Deadline::restored(record.deadline, interval, now), std::nullopt};
  return {};
}

}  // namespace

Result<State> recover(const Config& config, const Store& store, Now now) {
  if (const Status status = check(config); !status) return std::unexpected(status.error());
  State state;
  state.config = config;
  Loader loader(store);
  bool founded = false;
  Pieces pieces;
  Status status =
      loader.raw("meta", [&](ByteSpan key, ByteSpan value) { return take_meta(state, founded, key, value); });
  if (status && (!founded || state.trust_chain.empty())) {
    status = fail(Errc::not_found, "the store holds no fleet: run `rivulet-coordinator init`");
  }
  if (status) status = load_fleet(state, loader);
  if (status) status = load_registry(state, loader);
  if (status) status = load_verdicts(state, loader);
  if (status) status = load_audit(state, loader);
  if (status) status = load_round(state, loader, pieces);
  if (status) status = restore_phase(state, pieces, now);
  if (!status) return std::unexpected(status.error());
  return state;
}

}  // namespace rivulet::coordinator
