#include "coordinator/server/release_import.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "coordinator/work/publication.h"
#include "models/package/release.h"
#include "models/package/snapshot.h"
#include "storage/crash_point.h"

namespace rivulet::coordinator {
namespace {

Status check_data(const ScoringData& data, const Release& release, const char* what) {
  const std::size_t inputs = release.architecture.input_size();
  if (data.labels.empty())
    return fail(Errc::invalid, fmt::format("the {} has no samples: leave it out instead", what));
  if (data.inputs.size() != data.labels.size() * inputs) {
    return fail(Errc::invalid,
                fmt::format("the {} has {} labels and {} inputs; a sample of this model has {} inputs", what,
                            data.labels.size(), data.inputs.size(), inputs));
  }
  const bool has_targets = release.task == TaskKind::regression;
  if (data.targets.size() != (has_targets ? data.labels.size() : 0)) {
    return fail(Errc::invalid,
                fmt::format("the {} has {} targets for {} samples; a regression has one a sample "
                            "in place of labels, and other models have none",
                            what, data.targets.size(), data.labels.size()));
  }
  const auto is_finite = [](float x) { return std::isfinite(x); };
  if (!std::ranges::all_of(data.inputs, is_finite) || !std::ranges::all_of(data.targets, is_finite)) {
    return fail(Errc::invalid, fmt::format("the {} holds a number that is not finite", what));
  }
  if (release.task != TaskKind::classification) return {};
  for (std::size_t i = 0; i < data.labels.size(); ++i) {
    if (data.labels[i] < 0 || data.labels[i] >= release.architecture.outputs) {
      return fail(Errc::invalid, fmt::format("label {} of sample {} in the {} is none of the {} classes",
                                             data.labels[i], i, what, release.architecture.outputs));
    }
  }
  return {};
}

Result<Release> open_release(const ReleaseUpload& upload, const TrustDocument& trust) {
  const bool is_signed = std::ranges::any_of(trust.release_keys, [&](const PublicKey& key) {
    return verify_envelope(key, Context::release, upload.release).has_value();
  });
  if (!is_signed) {
    return fail(Errc::refused, "the release is not signed by a release key of this fleet's trust document",
                Reason::bad_signature);
  }
  auto release = decode_release(upload.release.payload);
  if (!release) return fail_at("release", release.error());
  if (upload.weights.size() != release->layout.size()) {
    return fail(Errc::invalid, fmt::format("the weights are {} numbers; the release's layout has {}",
                                           upload.weights.size(), release->layout.size()));
  }
  if (weights_hash_of(upload.weights) != release->initial_weights_hash) {
    return fail(Errc::invalid, "the weights are not those that the release names by hash");
  }
  if (content_id_of(std::as_bytes(std::span(upload.weights))) != release->initial_weights) {
    return fail(Errc::invalid, "the weights are not the content that the release names");
  }
  for (const auto& [data, what] :
       {std::pair{&upload.holdout, "holdout"}, std::pair{&upload.test, "test split"}}) {
    if (!*data) continue;
    if (Status status = check_data(**data, *release, what); !status) return std::unexpected(status.error());
  }
  return release;
}

/// The samples of a release: what it brought, else its teacher's, which `taken_over` then holds. Both outlive
/// the result.
Result<const ScoringData*> samples_of(const Release& release, const std::optional<ScoringData>& brought,
                                      Split split, const Datasets& datasets,
                                      std::optional<ScoringData>& taken_over) {
  if (brought) return &*brought;
  if (!release.teacher) return nullptr;
  auto data = datasets.read(release.teacher->release, split);
  if (!data) return fail_at("the teacher's samples", data.error());
  if (!*data) return nullptr;
  const char* what = split == Split::holdout ? "teacher's holdout" : "teacher's test split";
  if (Status status = check_data(**data, release, what); !status) return std::unexpected(status.error());
  taken_over = std::move(*data);
  return &*taken_over;
}

}  // namespace

Result<event::ImportRelease> prepare_import(const ReleaseUpload& upload, const TrustDocument& trust,
                                            bool registered, BlobStore& blobs, Datasets& datasets,
                                            std::vector<ContentId>& stored) {
  const auto release = open_release(upload, trust);
  if (!release) return std::unexpected(release.error());
  const auto snapshot = encode_snapshot(release->snapshot, release->layout, upload.weights);
  if (!snapshot) return std::unexpected(snapshot.error());
  const auto served = decode_snapshot(release->snapshot, release->layout, *snapshot);
  if (!served) return std::unexpected(served.error());

  event::ImportRelease event;
  const Bytes envelope = encode(upload.release);
  event.release = upload.release;
  event.release_content = content_id_of(envelope);
  event.snapshot = content_id_of(*snapshot);
  event.snapshot_bytes = snapshot->size();
  event.weights_hash = weights_hash_of(*served);
  std::optional<ScoringData> old_holdout;
  std::optional<ScoringData> old_test;
  const auto holdout = samples_of(*release, upload.holdout, Split::holdout, datasets, old_holdout);
  if (!holdout) return std::unexpected(holdout.error());
  const auto test = samples_of(*release, upload.test, Split::test, datasets, old_test);
  if (!test) return std::unexpected(test.error());
  event.has_holdout = *holdout != nullptr;
  event.has_test = *test != nullptr;
  if (*holdout != nullptr) event.holdout_hash = Datasets::hash_of(**holdout);
  if (*test != nullptr) event.test_hash = Datasets::hash_of(**test);
  stored = {event.release_content, event.snapshot, release->initial_weights};  // Some of them, if one fails.
  Status status = blobs.put(event.release_content, envelope);
  if (status) status = blobs.put(event.snapshot, *snapshot);
  if (!status) return std::unexpected(status.error());
  const auto master = store_weights(blobs, upload.weights);
  if (!master) return std::unexpected(master.error());
  event.master = *master;
  if (registered) return event;
  const ReleaseId id = release_id(upload.release.payload);
  if (*holdout != nullptr) status = datasets.store(id, Split::holdout, **holdout);
  if (status && *test != nullptr) status = datasets.store(id, Split::test, **test);
  if (!status) return std::unexpected(status.error());
  crash_point("coordinator.release_stored");
  return event;
}

}  // namespace rivulet::coordinator
