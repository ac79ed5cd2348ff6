#pragma once

#include <span>
#include <vector>

#include "coordinator/core/events.h"
#include "coordinator/work/model_runner.h"
#include "models/package/release.h"
#include "models/package/version.h"
#include "storage/blob_store.h"

namespace rivulet::coordinator {

/// The samples that variants are judged by; null where the release has none.
struct VariantData {
  const ScoringData* holdout = nullptr;  ///< Decides what is left out, and calibrates static int8.
  const ScoringData* test = nullptr;     ///< Gives the accuracy that is reported.
};

struct DerivedVariants {
  std::vector<VariantInfo> variants;  ///< Their blobs are stored.
  std::vector<LeftOut> left_out;
};

/// What the release's recipes make of a version. A variant that is worse than the version's own weights on
/// the holdout by more than `tolerance` is left out; so are int8 kernels that are, and the variant then runs
/// in float. Without a holdout nothing is left out, and nothing calibrated.
/// @param weights w_t, [layout.size()]. @param tolerance a fall of accuracy, or where the model answers
/// values the part by which their error grows.
/// @param stored gets the contents that were stored, also if it fails then.
/// @return refused if nothing would be left; the errors of the runner and of the store.
Result<DerivedVariants> derive_variants(const Release& release, std::span<const float> weights,
                                        const VariantData& data, double tolerance, ModelRunner& runner,
                                        BlobStore& blobs, std::vector<ContentId>& stored);

}  // namespace rivulet::coordinator
