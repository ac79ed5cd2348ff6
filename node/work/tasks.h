#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "models/package/release.h"
#include "node/core/effects.h"
#include "node/core/events.h"
#include "node/work/engine.h"
#include "storage/blob_store.h"

/// What a node's worker thread does for the agent's effects. No decision about the fleet is made here:
/// the answers go back to the agent as events.
namespace rivulet::node {

/// The release of a manifest from the blob store; its signature was verified before it was stored.
Result<Release> load_release(const BlobStore& blobs, const ContentId& content);

/// The weights that a snapshot decodes to.
/// @return an Error with the reason corrupt_content unless they have the hash that was signed, and lie
/// within the release's max_distance of w_0: what binds the online key.
Result<std::vector<float>> load_weights(const BlobStore& blobs, const Release& release, SnapshotForm form,
                                        const ContentId& snapshot, const Digest& weights_hash);

/// What a peer or the agent is told of an error: storage_failed and storage_full by its code.
Reason reason_of(const Error& error, Reason otherwise);

/// The contents that a version (and a candidate beside it) needs and that are not in the store as their ids
/// say: gone, or damaged by the disk. Without its release, w_0 is not known, and looked at when that has come
/// anew.
std::vector<ContentId> damaged_contents(const BlobStore& blobs, const VersionManifest& manifest,
                                        const CandidateManifest* candidate = nullptr);

/// Trains and stores the encoded delta (effect::Train). @return TrainingDone or TaskFailed; nothing if
/// it was stopped.
std::optional<Event> run_training(const effect::Train& task, BlobStore& blobs, Engine& engine,
                                  const std::atomic<bool>& stop);

/// Scores parent and candidate on the same samples (effect::Evaluate). @return EvaluationDone or
/// TaskFailed; nothing if it was stopped.
/// @param stop may be null. An engine that looks at it too ends a score under way.
std::optional<Event> run_evaluation(const effect::Evaluate& task, const BlobStore& blobs, Engine& engine,
                                    const std::atomic<bool>* stop = nullptr);

/// A version that is ready to serve, or why it is not.
struct Activation {
  Release release;
  std::vector<float> weights;  ///< Of the variant.
};
/// @param active what serves now, for the comparison on the holdout; null when there is nothing.
struct ActivationRules {
  double tolerance = 0.05;       ///< A greater fall of accuracy …
  double significance = 0.01;    ///< … with a sign test below this refuses a version.
  std::size_t holdout_min = 50;  ///< With fewer samples nothing is compared.
};
/// Checks hash, distance, known answers and, for a trial, the comparison with `active` on the local
/// holdout (effect::Activate). @return an Error whose reason is what ActivationFailed reports.
Result<Activation> prepare_activation(const effect::Activate& effect, const Activation* active,
                                      const ActivationRules& rules, const BlobStore& blobs, Engine& engine);

/// The one-sided sign test: how likely `losses` or more of the pairs that differ would be lost if
/// neither model were better. P(X >= losses), X ~ Binomial(losses + wins, 1/2).
double sign_test(std::uint64_t losses, std::uint64_t wins);

}  // namespace rivulet::node
