#pragma once

#include <optional>
#include <vector>

#include "coordinator/core/events.h"
#include "coordinator/server/datasets.h"
#include "coordinator/work/model_runner.h"
#include "protocol/envelope.h"
#include "protocol/trust.h"
#include "storage/blob_store.h"

namespace rivulet::coordinator {

/// What the operator's machine sends to import a model; nothing of it is believed.
struct ReleaseUpload {
  Envelope release;            ///< Context::release, signed by the release key.
  std::vector<float> weights;  ///< w_0
  std::optional<ScoringData> holdout;
  std::optional<ScoringData> test;
};

/// Checks signature, document, weights and data, stores all of it durably, and makes the first version's
/// snapshot. A holdout or test split that a release with a teacher does not bring is its teacher's.
/// @param registered the fleet has this release: its data stay as they are. @param stored gets the contents
/// that were stored, also if it fails then. @return the event without its request; refused for a signature
/// that `trust` does not know, invalid, corrupt, storage, storage_full.
Result<event::ImportRelease> prepare_import(const ReleaseUpload& upload, const TrustDocument& trust,
                                            bool registered, BlobStore& blobs, Datasets& datasets,
                                            std::vector<ContentId>& stored);

}  // namespace rivulet::coordinator
