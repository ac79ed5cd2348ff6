#include "coordinator/work/publication.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

#include "coordinator/aggregation/aggregation_rule.h"
#include "coordinator/aggregation/server_optimizer.h"
#include "coordinator/work/update_inspection.h"
#include "models/package/known_inputs.h"
#include "models/package/pruning.h"
#include "models/package/snapshot.h"
#include "protocol/codec/norm.h"

namespace rivulet::coordinator {
namespace {

std::unexpected<Error> damaged(const ContentId& content) {
  return fail(Errc::corrupt,
              "content " + content.hex() + " is not what was stored under its name: check the disk");
}

/// A whole content. @return corrupt if the disk has changed it; not_found, storage.
Result<Bytes> read_verified(const BlobStore& blobs, const ContentId& content) {
  auto bytes = blobs.read_all(content);
  if (bytes && content_id_of(*bytes) != content) return damaged(content);
  return bytes;
}

/// Whether the updates are still what they were when they came in, which may be hours ago.
/// @return the first one's fault, in the order of the set.
Status verify_updates(const std::vector<SealedEntry>& entries, std::size_t threads, const BlobStore& blobs) {
  std::vector<Status> done(entries.size());
  std::atomic<std::size_t> next = 0;
  const auto verify = [&] {
    for (std::size_t i = next++; i < entries.size(); i = next++) {
      const auto list = hash_blob(blobs, entries[i].content);
      if (!list) {
        done[i] = std::unexpected(list.error());
      } else if (list->id() != entries[i].content) {
        done[i] = damaged(entries[i].content);
      }
    }
  };
  {
    std::vector<std::jthread> others;
    for (std::size_t k = 1; k < std::min(threads, entries.size()); ++k) others.emplace_back(verify);
    verify();
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (!done[i]) return fail_at("update " + entries[i].task.hex(), done[i].error());
  }
  return {};
}

Result<std::vector<float>> mean_delta(const effect::Aggregate& task, const ParameterLayout& layout,
                                      std::size_t threads, const BlobStore& blobs) {
  if (Status status = verify_updates(task.entries, threads, blobs); !status)
    return std::unexpected(status.error());
  std::vector<std::unique_ptr<SegmentSource>> sources;
  std::vector<SealedUpdate> updates;
  for (const SealedEntry& entry : task.entries) {
    auto source = open_update(blobs, entry.content, entry.content_bytes, entry.codec, layout);
    if (!source) return fail_at("update " + entry.task.hex(), source.error());
    updates.push_back({entry.task, entry.weight, entry.scale, source->get()});
    sources.push_back(std::move(*source));
  }
  const auto rule = make_weighted_mean(ranges_of(layout, TensorKind::statistic));
  return aggregate_in_parallel(*rule, std::move(updates), layout.size(), threads);
}

Result<std::vector<float>> step_master(const effect::Aggregate& task, const ParameterLayout& layout,
                                       std::span<const float> delta, const BlobStore& blobs) {
  auto parent = read_weights(blobs, task.parent_master, layout);
  if (!parent) return fail_at("the parent's master", parent.error());
  ServerState state{std::move(*parent), {}};
  const auto statistics = ranges_of(layout, TensorKind::statistic);
  const auto optimizer = make_fedavg(static_cast<float>(task.aggregation.server_learning_rate));
  auto next = optimizer->step(state, delta, {statistics, variance_ranges(layout)});
  if (!next) return std::unexpected(next.error());
  return std::move(next->master);
}

Result<ContentId> store(BlobStore& blobs, ByteSpan bytes) {
  const ContentId id = content_id_of(bytes);
  if (const auto status = blobs.put(id, bytes); !status) return std::unexpected(status.error());
  return id;
}

/// What nodes get of a master, which itself stays dense: a weight that is pruned now may come back.
Result<Bytes> encode_pruned(const Release& release, std::span<const float> master, double sparsity) {
  if (sparsity == 0.0) return encode_snapshot(release.snapshot, release.layout, master);
  std::vector<float> weights(master.begin(), master.end());
  prune(weights, release.layout, sparsity);
  return encode_snapshot(release.snapshot, release.layout, weights);
}

Result<std::vector<float>> read_snapshot(const BlobStore& blobs, const ContentId& content, SnapshotForm form,
                                         const ParameterLayout& layout) {
  const auto bytes = read_verified(blobs, content);
  if (!bytes) return std::unexpected(bytes.error());
  return decode_snapshot(form, layout, *bytes);
}

/// Also a score that is no number: what to make of it is the core's to decide.
std::optional<Metrics> try_score(const Release& release, const Result<std::vector<float>>& weights,
                                 const ScoringData* data, ModelRunner& runner) {
  if (data == nullptr || data->labels.empty() || !weights) return std::nullopt;
  const auto metrics = runner.score(release, *weights, *data);
  return metrics ? std::optional(*metrics) : std::nullopt;
}

}  // namespace

Result<std::vector<float>> read_weights(const BlobStore& blobs, const ContentId& content,
                                        const ParameterLayout& layout) {
  return read_snapshot(blobs, content, SnapshotForm::fp32, layout);
}

Result<ContentId> store_weights(BlobStore& blobs, std::span<const float> weights) {
  return store(blobs, std::as_bytes(weights));
}

Result<CandidateBuilt> build_candidate(const effect::Aggregate& task, const Release& release,
                                       const SecretKey& key, std::size_t threads, BlobStore& blobs) {
  auto delta = mean_delta(task, release.layout, threads, blobs);
  if (!delta) return std::unexpected(delta.error());
  const auto master = step_master(task, release.layout, *delta, blobs);
  if (!master) return std::unexpected(master.error());
  *delta = std::vector<float>();  // As large as all that follows.
  const auto initial = read_weights(blobs, release.initial_weights, release.layout);
  if (!initial) return fail_at("the release's first weights", initial.error());
  const auto snapshot = encode_pruned(release, *master, task.sparsity);
  if (!snapshot) return std::unexpected(snapshot.error());
  const auto weights = decode_snapshot(release.snapshot, release.layout, *snapshot);
  if (!weights) return std::unexpected(weights.error());

  CandidateBuilt built;
  built.form = release.snapshot;
  built.snapshot_bytes = snapshot->size();
  built.weights_hash = weights_hash_of(*weights);
  // Of what the fleet gets, which the bound is about: rounding can take it further than the master.
  built.distance = l2_distance(*weights, *initial, ranges_of(release.layout, TensorKind::parameter));
  const auto snapshot_id = store(blobs, *snapshot);
  if (!snapshot_id) return std::unexpected(snapshot_id.error());
  built.snapshot = *snapshot_id;
  const auto master_id = store_weights(blobs, *master);
  if (!master_id) return std::unexpected(master_id.error());
  built.master = *master_id;

  const CandidateManifest manifest{.fleet = release.fleet,
                                   .round = task.round,
                                   .release = task.release,
                                   .release_content = task.release_content,
                                   .parent = task.parent,
                                   .parent_weights_hash = task.parent_weights_hash,
                                   .form = built.form,
                                   .snapshot = built.snapshot,
                                   .snapshot_bytes = built.snapshot_bytes,
                                   .weights_hash = built.weights_hash};
  built.manifest = seal(key, Context::candidate, encode(manifest));
  return built;
}

Result<event::CandidateScored> score_candidate(const effect::ScoreCandidate& task, const Release& release,
                                               const ScoringData* holdout, const ScoringData* test,
                                               ModelRunner& runner, const BlobStore& blobs) {
  const auto parent = read_snapshot(blobs, task.parent_snapshot, task.form, release.layout);
  const auto candidate = read_snapshot(blobs, task.candidate_snapshot, task.form, release.layout);
  for (const auto* weights : {&parent, &candidate}) {
    if (*weights) continue;
    const Errc code = weights->error().code;
    if (code == Errc::storage || code == Errc::busy) return std::unexpected(weights->error());
  }
  return event::CandidateScored{.round = task.round,
                                .attempt = task.attempt,
                                .parent_central = try_score(release, parent, holdout, runner),
                                .candidate_central = try_score(release, candidate, holdout, runner),
                                .candidate_test = try_score(release, candidate, test, runner)};
}

Result<event::VersionSealed> seal_version(const effect::SealVersion& task, const Release& release,
                                          const VariantData& data, const SecretKey& key, ModelRunner& runner,
                                          BlobStore& blobs, std::vector<ContentId>& stored) {
  event::VersionSealed sealed;
  sealed.manifest = task.manifest;
  const auto weights = read_snapshot(blobs, task.manifest.snapshot, task.manifest.form, release.layout);
  if (!weights) return fail_at("the version's snapshot", weights.error());
  auto derived = derive_variants(release, *weights, data, task.variant_tolerance, runner, blobs, stored);
  if (!derived) return std::unexpected(derived.error());
  sealed.manifest.variants = std::move(derived->variants);
  sealed.left_out = std::move(derived->left_out);
  sealed.manifest.reference = runner.reference();
  if (data.test != nullptr && !data.test->labels.empty()) {
    const auto metrics = runner.score(release, *weights, *data.test);
    if (!metrics) return std::unexpected(metrics.error());
    sealed.metrics = *metrics;
  }
  Bytes payload = encode(sealed.manifest);
  if (payload.size() > manifest_bytes_max) {
    return fail(Errc::too_large, "the version's manifest has " + std::to_string(payload.size()) +
                                     " bytes, at most " + std::to_string(manifest_bytes_max) +
                                     " fit in a frame: import a release with fewer outputs or variants");
  }
  sealed.envelope = seal(key, Context::version, std::move(payload));
  return sealed;
}

}  // namespace rivulet::coordinator
