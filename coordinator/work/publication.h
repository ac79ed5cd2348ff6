#pragma once

#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"
#include "coordinator/work/model_runner.h"
#include "coordinator/work/variants.h"
#include "models/package/release.h"
#include "protocol/keys.h"
#include "storage/blob_store.h"

/// What the coordinator's worker thread computes between the phases of a round. No decision is made
/// here: the core asks, and the answers go back to it.
namespace rivulet::coordinator {

/// Sums the sealed updates, steps the fp32 master, prunes a copy of it, encodes that as the candidate's
/// snapshot, stores both and signs the candidate's manifest (effect::Aggregate).
/// @return what failed, naming the update or content; corrupt if a content is not what its name says.
/// Nothing of the parent has changed.
Result<CandidateBuilt> build_candidate(const effect::Aggregate& task, const Release& release,
                                       const SecretKey& key, std::size_t threads, BlobStore& blobs);

/// Parent and candidate on the release's holdout and test split (effect::ScoreCandidate). What is
/// absent, or cannot be scored, is absent from the answer; a loss that is not finite is in it.
/// @return storage if the disk failed.
Result<event::CandidateScored> score_candidate(const effect::ScoreCandidate& task, const Release& release,
                                               const ScoringData* holdout, const ScoringData* test,
                                               ModelRunner& runner, const BlobStore& blobs);

/// Derives the variants that the release's recipes name, stores them, and signs the whole manifest
/// (effect::SealVersion). @param data its test split scores variants and a release's first version.
/// @param stored gets the variants' contents, also if it fails: PublicationFailed::stored.
Result<event::VersionSealed> seal_version(const effect::SealVersion& task, const Release& release,
                                          const VariantData& data, const SecretKey& key, ModelRunner& runner,
                                          BlobStore& blobs, std::vector<ContentId>& stored);

/// The float32 vector of a blob. @return corrupt if it is not what its name says, has another length than
/// `layout`, or an entry that is not finite.
Result<std::vector<float>> read_weights(const BlobStore& blobs, const ContentId& content,
                                        const ParameterLayout& layout);

/// Stores a float32 vector. @return its content id.
Result<ContentId> store_weights(BlobStore& blobs, std::span<const float> weights);

}  // namespace rivulet::coordinator
