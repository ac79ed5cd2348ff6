#include "sim/world/checker.h"

#include <algorithm>
#include <cmath>

#include "coordinator/core/audit.h"
#include "coordinator/core/records.h"
#include "models/package/pruning.h"
#include "models/package/snapshot.h"
#include "storage/write.h"

namespace rivulet::sim {
namespace {

using coordinator::Contribution;
using coordinator::VersionRecord;

std::optional<std::vector<float>> floats_of(const BlobStore& blobs, const ContentId& content) {
  const auto bytes = blobs.read_all(content);
  if (!bytes) return std::nullopt;
  std::vector<float> values(bytes->size() / sizeof(float));
  std::memcpy(values.data(), bytes->data(), values.size() * sizeof(float));
  return values;
}

/// Whether the store had it as an accepted update before the version.
bool is_accepted(const Store& store, const Contribution& update) {
  const auto bytes = store.get("updates", update.task.span());
  if (!bytes || !*bytes) return false;
  const auto record = coordinator::parse_record<coordinator::UpdateRecord>(**bytes);
  return record && record->node == update.node && record->content == update.content &&
         record->sample_count == update.sample_count;
}

}  // namespace

void Checker::on_trained(const ContentId& content, Codec codec, ByteSpan wire, std::uint64_t samples) {
  const auto entries = static_cast<std::size_t>(load_le<std::uint64_t>(wire));
  const auto delta = EncodedDelta::parse(codec, wire, entries);
  auto decoded = delta ? delta->decode() : Result<std::vector<float>>(std::unexpected(delta.error()));
  if (!decoded) return violate("a node stored a delta that does not decode");
  trained_[content] = {std::move(*decoded), samples};
}

void Checker::on_commit(const Store& store, const BlobStore& blobs, const WriteBatch& batch) {
  for (const Write& write : batch) {
    const auto* put = std::get_if<Put>(&write);
    if (put == nullptr) continue;
    if (put->family == "verdicts") {
      const auto before = store.get("verdicts", put->key);
      if (before && *before && **before != put->value) violate("a verdict was changed: " + to_hex(put->key));
    }
    if (put->family == "versions") check_version(store, blobs, put->value);
  }
}

void Checker::check_version(const Store& store, const BlobStore& blobs, ByteSpan value) {
  const auto version = coordinator::parse_record<VersionRecord>(value);
  if (!version) return violate("a version's record does not parse: " + version.error().detail);
  const VersionNumber number = version->manifest.version;
  const auto known = checked_versions_.find(number);
  if (known != checked_versions_.end() && known->second == version->master) return;  // Blobs were dropped.
  for (const auto& [other, master] : checked_versions_) {
    if (other > number) violate("version " + std::to_string(number) + " came after " + std::to_string(other));
  }
  checked_versions_[number] = version->master;
  if (version->manifest.parent == 0) return;

  // A crash before this commit takes what was used along: the same round may publish other updates.
  std::erase_if(used_, [&](const auto& entry) { return entry.second >= number; });
  std::set<PublicKey> nodes;
  for (const Contribution& update : version->updates) {
    const auto [place, is_new] = used_.emplace(update.task, number);
    if (!is_new)
      violate("an update is in versions " + std::to_string(place->second) + " and " + std::to_string(number));
    if (!nodes.insert(update.node).second)
      violate("version " + std::to_string(number) + " has two updates of one node");
    if (!trained_.contains(update.content))
      violate("version " + std::to_string(number) + " has an update that no node made");
    if (!is_accepted(store, update))
      violate("version " + std::to_string(number) + " has an update that was not durably accepted");
  }
  const auto parent_bytes = store.get("versions", number_key(version->manifest.parent));
  if (!parent_bytes || !*parent_bytes) return violate("version " + std::to_string(number) + " has no parent");
  const auto parent = coordinator::parse_record<VersionRecord>(**parent_bytes);
  const auto before = floats_of(blobs, parent->master);
  const auto after = floats_of(blobs, version->master);
  if (!before || !after) return violate("a master is not in the blob store");
  check_master(*version, *before, *after);
  check_weights(store, blobs, *version, *after);
}

void Checker::check_master(const VersionRecord& version, const std::vector<float>& parent,
                           const std::vector<float>& master) {
  std::vector<double> counts;
  for (const Contribution& update : version.updates) {
    counts.push_back(static_cast<double>(trained_[update.content].samples));
  }
  std::vector<double> sorted = counts;
  std::ranges::sort(sorted);
  const double cap = sorted.empty() ? 0 : 4 * sorted[(sorted.size() - 1) / 2];
  std::vector<double> sum(parent.size());
  double total = 0;
  for (std::size_t k = 0; k < counts.size(); ++k) {
    const double weight = std::min(counts[k], cap);
    const std::vector<float>& delta = trained_[version.updates[k].content].delta;
    if (delta.size() != parent.size()) return violate("an update has another length than the model");
    total += weight;
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += weight * version.updates[k].scale * delta[i];
  }
  for (std::size_t i = 0; i < sum.size(); ++i) {
    if (!(std::abs(parent[i] + sum[i] / total - master[i]) <= 1e-6)) {  // No number fails too.
      return violate("the master of version " + std::to_string(version.manifest.version) +
                     " is not its parent's and the mean of its updates");
    }
  }
}

void Checker::check_weights(const Store& store, const BlobStore& blobs, const VersionRecord& version,
                            std::vector<float> master) {
  const std::string name = "version " + std::to_string(version.manifest.version);
  const auto record = store.get("releases", version.manifest.release.span());
  if (!record || !*record) return violate(name + " has no release");
  const auto release = coordinator::parse_record<coordinator::ReleaseRecord>(**record);
  if (!release) return violate("the release of " + name + " does not parse");
  std::uint64_t steps = 0;
  for (VersionNumber ancestor = version.manifest.parent; ancestor != 0; ++steps) {
    const auto bytes = store.get("versions", number_key(ancestor));
    const auto parent = bytes && *bytes ? coordinator::parse_record<VersionRecord>(**bytes)
                                        : fail(Errc::not_found, "no such version");
    if (!parent) return violate(name + " has no ancestor " + std::to_string(ancestor));
    ancestor = parent->manifest.parent;
  }
  const ParameterLayout& layout = release->release.layout;
  prune(master, layout, sparsity_at(release->release.pruning, steps));
  const auto snapshot = encode_snapshot(version.manifest.form, layout, master);
  const auto stored = blobs.read_all(version.manifest.snapshot);
  if (!snapshot || !stored || *snapshot != *stored)
    return violate("the snapshot of " + name + " is not its master, pruned and coded");
  const auto weights = decode_snapshot(version.manifest.form, layout, *stored);
  if (!weights || weights_hash_of(*weights) != version.manifest.weights_hash)
    violate("the snapshot of " + name + " does not decode to the weights that it names");
}

std::map<TaskId, std::string> Checker::verdicts(const Store& store) const {
  std::map<TaskId, std::string> found;
  std::ignore = store.scan("verdicts", {}, [&](ByteSpan, ByteSpan value) {
    const auto verdict = coordinator::parse_record<coordinator::VerdictRecord>(value);
    if (verdict) found[verdict->task] += verdict->outcome == message::VerdictOutcome::aggregated ? "a" : "d";
    return true;
  });
  return found;
}

void Checker::at_the_end(const Store& store) {
  const auto found = verdicts(store);
  for (const TaskId& task : accepted_) {
    const auto verdict = found.find(task);
    if (verdict == found.end())
      violate("update " + task.hex() + " was accepted and has no verdict");
    else if (verdict->second.size() != 1)
      violate("update " + task.hex() + " has several verdicts");
    const bool used = used_.contains(task);
    if (verdict != found.end() && used != (verdict->second == "a")) {
      violate("the verdict on update " + task.hex() + " does not say what became of it");
    }
  }
  coordinator::AuditVerifier audit;
  std::ignore = store.scan("audit", {}, [&](ByteSpan, ByteSpan value) {
    if (const auto fault = audit.add(text_of(value))) {
      violate("audit entry " + std::to_string(fault->seq) + ": " + fault->what);
      return false;
    }
    return true;
  });
  std::uint64_t last_manifest = 0;
  std::ignore = store.scan("versions", {}, [&](ByteSpan, ByteSpan value) {
    const auto version = coordinator::parse_record<VersionRecord>(value);
    if (version && version->manifest.manifest_version <= last_manifest)
      violate("a manifest version did not rise");
    if (version) last_manifest = version->manifest.manifest_version;
    return true;
  });
}

}  // namespace rivulet::sim
