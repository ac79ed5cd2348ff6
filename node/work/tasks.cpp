#include "node/work/tasks.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "models/package/snapshot.h"
#include "protocol/codec/mixed.h"
#include "protocol/codec/norm.h"
#include "protocol/content.h"
#include "protocol/envelope.h"
#include "protocol/rng.h"

namespace rivulet::node {
namespace {

event::TaskFailed failed(const TaskId& task, const Error& error, Reason otherwise) {
  return {task, reason_of(error, otherwise), error.detail};
}

Status check_answers(const Release& release, const VariantInfo& variant, std::span<const float> weights,
                     Engine& engine) {
  const auto answers = engine.answers(release, weights, release.known_inputs);
  if (!answers) return fail(Errc::refused, answers.error().detail, Reason::not_loadable);
  if (answers->size() != variant.known_outputs.size()) {
    return fail(Errc::refused, "the number of known answers is wrong", Reason::bad_manifest);
  }
  for (std::size_t i = 0; i < answers->size(); ++i) {
    // Written so that a NaN on either side fails.
    if (!(std::abs((*answers)[i] - variant.known_outputs[i]) <= variant.tolerance)) {
      return fail(Errc::refused,
                  fmt::format("answer {} is {} instead of {}", i, (*answers)[i], variant.known_outputs[i]),
                  Reason::known_answers_wrong);
    }
  }
  return {};
}

/// Two models on the same samples.
struct Comparison {
  std::uint64_t losses = 0, wins = 0;  ///< Samples on which the second is worse, and better.
  double fall = 0;                     ///< Of the accuracy; of values the part by which the error grows.
};

Comparison compare_pairs(const HoldoutScore& before, const HoldoutScore& after) {
  Comparison pairs;
  const std::size_t samples = after.right.size();
  const bool values = after.losses.size() == samples && before.losses.size() == samples && samples > 0;
  for (std::size_t i = 0; i < samples; ++i) {
    const bool worse =
        values ? after.losses[i] > before.losses[i] : before.right[i] != 0 && after.right[i] == 0;
    const bool better =
        values ? after.losses[i] < before.losses[i] : before.right[i] == 0 && after.right[i] != 0;
    pairs.losses += worse ? 1 : 0;
    pairs.wins += better ? 1 : 0;
  }
  if (!values) {
    pairs.fall =
        (static_cast<double>(pairs.losses) - static_cast<double>(pairs.wins)) / static_cast<double>(samples);
  } else if (before.loss_sum > 0) {
    pairs.fall = after.loss_sum / before.loss_sum - 1;
  } else {
    pairs.fall = after.loss_sum > 0 ? 1 : 0;
  }
  return pairs;
}

Status compare_on_holdout(const Activation& active, const Activation& trial, const ActivationRules& rules,
                          Engine& engine) {
  // Another model's classes cannot be compared sample by sample.
  if (active.release.name != trial.release.name || active.release.classes != trial.release.classes) return {};
  const auto before = engine.score(active.release, active.weights);
  if (!before)
    return {};  // The samples cannot be read, or what serves can't answer: neither is the trial's fault.
  const auto after = engine.score(trial.release, trial.weights);
  if (!after) return fail(Errc::refused, after.error().detail, Reason::not_loadable);
  if (before->right.size() != after->right.size() || after->right.size() < rules.holdout_min) return {};
  const Comparison pairs = compare_pairs(*before, *after);
  if (pairs.fall > rules.tolerance && sign_test(pairs.losses, pairs.wins) < rules.significance) {
    const bool classes = after->losses.empty();
    return fail(Errc::refused,
                fmt::format("{} on {} own samples would {} by {:.3f}", classes ? "accuracy" : "the error",
                            after->right.size(), classes ? "fall" : "grow", pairs.fall),
                Reason::worse_on_holdout);
  }
  return {};
}

/// The weights that a variant has by its recipe.
Result<std::vector<float>> variant_of(const Release& release, std::string_view variant,
                                      const std::vector<float>& weights) {
  // Sparse or not, the values are the same.
  const SnapshotForm form = variant_form(variant, SnapshotForm::fp32);
  if (form == SnapshotForm::fp32) return weights;
  const auto bytes = encode_snapshot(form, release.layout, weights);
  if (!bytes) return std::unexpected(bytes.error());
  return decode_snapshot(form, release.layout, *bytes);
}

/// What the node judges and serves: the version's weights, with statistics of its own where the release says
/// so.
Result<std::vector<float>> own_weights(const Release& release, std::vector<float> weights, Engine& engine) {
  if (release.batch_norm == BatchNorm::averaged) return weights;
  return engine.localize(release, weights);
}

}  // namespace

double sign_test(std::uint64_t losses, std::uint64_t wins) {
  const auto n = static_cast<double>(losses + wins);
  double tail = 0;
  for (std::uint64_t k = losses; k <= losses + wins; ++k) {
    const auto x = static_cast<double>(k);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(x + 1) - std::lgamma(n - x + 1) - n * std::log(2.0));
  }
  return std::min(tail, 1.0);
}

Result<Release> load_release(const BlobStore& blobs, const ContentId& content) {
  const auto bytes = blobs.read_all(content);
  if (!bytes) return std::unexpected(bytes.error());
  if (content_id_of(*bytes) != content) {
    return fail(Errc::corrupt, "the stored release is not what its id says", Reason::corrupt_content);
  }
  const auto envelope = decode_envelope(*bytes);
  if (!envelope) return std::unexpected(envelope.error());
  return decode_release(envelope->payload);
}

Result<std::vector<float>> load_weights(const BlobStore& blobs, const Release& release, SnapshotForm form,
                                        const ContentId& snapshot, const Digest& weights_hash) {
  const auto bytes = blobs.read_all(snapshot);
  if (!bytes) return std::unexpected(bytes.error());
  auto weights = decode_snapshot(form, release.layout, *bytes);
  if (!weights) return fail(Errc::corrupt, weights.error().detail, Reason::corrupt_content);
  if (weights_hash_of(*weights) != weights_hash) {
    return fail(Errc::corrupt, "the weights do not have the hash that was signed", Reason::corrupt_content);
  }
  const auto initial_bytes = blobs.read_all(release.initial_weights);
  if (!initial_bytes) return std::unexpected(initial_bytes.error());
  const auto initial = decode_snapshot(SnapshotForm::fp32, release.layout, *initial_bytes);
  if (!initial) return fail(Errc::corrupt, initial.error().detail, Reason::corrupt_content);
  if (weights_hash_of(*initial) != release.initial_weights_hash) {
    return fail(Errc::corrupt, "w_0 does not have the hash that the release names", Reason::corrupt_content);
  }
  const double distance = l2_distance(*weights, *initial, ranges_of(release.layout, TensorKind::parameter));
  if (!(distance <= release.limits.max_distance)) {
    return fail(Errc::refused,
                fmt::format("the weights are {:.3g} from w_0; the release allows {:.3g}", distance,
                            release.limits.max_distance),
                Reason::corrupt_content);
  }
  return weights;
}

Reason reason_of(const Error& error, Reason otherwise) {
  if (error.code == Errc::storage) return Reason::storage_failed;
  if (error.code == Errc::storage_full) return Reason::storage_full;
  return error.reason == Reason::none ? otherwise : error.reason;
}

std::vector<ContentId> damaged_contents(const BlobStore& blobs, const VersionManifest& manifest,
                                        const CandidateManifest* candidate) {
  std::vector<ContentId> needed{manifest.release_content, manifest.snapshot};
  if (candidate != nullptr) needed.push_back(candidate->snapshot);
  if (const auto release = load_release(blobs, manifest.release_content)) {
    needed.push_back(release->initial_weights);
  }
  std::erase_if(needed, [&](const ContentId& content) {
    const auto list = hash_blob(blobs, content);
    return list ? list->id() == content : list.error().code != Errc::not_found;
  });
  return needed;
}

std::optional<Event> run_training(const effect::Train& task, BlobStore& blobs, Engine& engine,
                                  const std::atomic<bool>& stop) {
  const auto unreadable = [&](const Error& error) {
    auto event = failed(task.task, error, Reason::corrupt_content);
    event.damaged = damaged_contents(blobs, task.base);
    return event;
  };
  const auto release = load_release(blobs, task.base.release_content);
  if (!release) return unreadable(release.error());
  const auto base = load_weights(blobs, *release, task.base.form, task.base.snapshot, task.base.weights_hash);
  if (!base) return unreadable(base.error());
  const auto codec = codec_from_number(task.plan.codec);
  if (!codec) return failed(task.task, codec.error(), Reason::training_failed);
  auto result = engine.train(*release, *base, task.plan, stop);
  if (!result) {
    if (result.error().code == Errc::cancelled) return std::nullopt;
    return failed(task.task, result.error(), Reason::training_failed);
  }
  // The rounding of the codec must differ between nodes, or their errors would add up.
  Rng rng(derive_seed(task.plan.seed, load_le<std::uint64_t>(task.task.span())));
  const auto statistics = ranges_of(release->layout, TensorKind::statistic);
  if (release->batch_norm == BatchNorm::local) {
    for (const auto [begin, end] : statistics) std::fill_n(result->delta.data() + begin, end - begin, 0.0F);
  }
  const auto wire = encode_mixed(*codec, result->delta, statistics, rng);
  if (!wire) return failed(task.task, wire.error(), Reason::training_diverged);
  const ContentId content = content_id_of(*wire);
  if (const auto status = blobs.put(content, *wire); !status)
    return failed(task.task, status.error(), Reason::training_failed);
  return event::TrainingDone{.task = task.task,
                             .content = content,
                             .content_bytes = wire->size(),
                             .parameter_count = release->layout.size(),
                             .sample_count = result->samples,
                             .loss_first = result->loss_first,
                             .loss_last = result->loss_last};
}

namespace {

Event judge_candidate(const effect::Evaluate& task, const BlobStore& blobs, Engine& engine) {
  const auto unreadable = [&](const Error& error) {
    auto event = failed(task.task, error, Reason::corrupt_content);
    event.damaged = damaged_contents(blobs, task.parent, &task.candidate);
    return event;
  };
  const auto release = load_release(blobs, task.parent.release_content);
  if (!release) return unreadable(release.error());
  const auto parent =
      load_weights(blobs, *release, task.parent.form, task.parent.snapshot, task.parent.weights_hash);
  if (!parent) return unreadable(parent.error());
  const auto candidate = load_weights(blobs, *release, task.candidate.form, task.candidate.snapshot,
                                      task.candidate.weights_hash);
  if (!candidate) return unreadable(candidate.error());
  // What is judged is what would be served: a candidate may be good and its int8 variant not.
  auto parent_variant = variant_of(*release, task.variant, *parent);
  if (!parent_variant) return failed(task.task, parent_variant.error(), Reason::corrupt_content);
  auto candidate_variant = variant_of(*release, task.variant, *candidate);
  if (!candidate_variant) return failed(task.task, candidate_variant.error(), Reason::corrupt_content);
  const auto own_parent = own_weights(*release, std::move(*parent_variant), engine);
  if (!own_parent) return failed(task.task, own_parent.error(), Reason::too_few_samples);
  const auto own_candidate = own_weights(*release, std::move(*candidate_variant), engine);
  if (!own_candidate) return failed(task.task, own_candidate.error(), Reason::too_few_samples);
  const auto before = engine.score(*release, *own_parent);
  const auto after = engine.score(*release, *own_candidate);
  if (!before) return failed(task.task, before.error(), Reason::too_few_samples);
  if (!after) return failed(task.task, after.error(), Reason::too_few_samples);
  if (before->right.size() != after->right.size()) {
    return failed(task.task, {Errc::conflict, "the holdout changed between the two scores"},
                  Reason::too_few_samples);
  }
  event::EvaluationDone done;
  done.task = task.task;
  for (std::size_t i = 0; i < before->right.size(); ++i) {
    const bool was = before->right[i] != 0, is = after->right[i] != 0;
    ++(was ? (is ? done.both_right : done.parent_only) : (is ? done.candidate_only : done.both_wrong));
  }
  done.parent_loss_sum = before->loss_sum;
  done.candidate_loss_sum = after->loss_sum;
  return done;
}

}  // namespace

std::optional<Event> run_evaluation(const effect::Evaluate& task, const BlobStore& blobs, Engine& engine,
                                    const std::atomic<bool>* stop) {
  const auto stopped = [stop] { return stop != nullptr && stop->load(std::memory_order_relaxed); };
  if (stopped()) return std::nullopt;
  Event event = judge_candidate(task, blobs, engine);
  if (stopped()) return std::nullopt;  // Then scores were cut short, if any was taken.
  return event;
}

Result<Activation> prepare_activation(const effect::Activate& effect, const Activation* active,
                                      const ActivationRules& rules, const BlobStore& blobs, Engine& engine) {
  const VersionManifest& manifest = effect.manifest;
  const auto with_reason = [](Error error) {
    error.reason = reason_of(error, Reason::not_loadable);
    return std::unexpected(std::move(error));
  };
  auto release = load_release(blobs, manifest.release_content);
  if (!release) return with_reason(release.error());
  const auto weights = load_weights(blobs, *release, manifest.form, manifest.snapshot, manifest.weights_hash);
  if (!weights) return with_reason(weights.error());

  Activation trial{std::move(*release), *weights};
  for (const VariantInfo& variant : manifest.variants) {
    if (variant.name != effect.variant) continue;
    const SnapshotForm form = variant_form(variant.name, manifest.form);
    // The node repeats the recipe: what it serves is bound to w_t, and nothing more is downloaded.
    const auto bytes = encode_snapshot(form, trial.release.layout, *weights);
    if (!bytes) return with_reason(bytes.error());
    if (content_id_of(*bytes) != variant.content) {
      return fail(Errc::refused, "variant " + variant.name + " is not what its recipe makes of the weights",
                  Reason::bad_manifest);
    }
    auto served = decode_snapshot(form, trial.release.layout, *bytes);
    if (!served) return with_reason(served.error());
    trial.weights = std::move(*served);
    if (const auto status = check_answers(trial.release, variant, trial.weights, engine); !status) {
      return std::unexpected(status.error());
    }
  }
  auto own = own_weights(trial.release, std::move(trial.weights), engine);
  if (!own) return with_reason(own.error());
  trial.weights = std::move(*own);
  if (effect.kind == effect::Activate::Kind::trial && active != nullptr) {
    if (const auto status = compare_on_holdout(*active, trial, rules, engine); !status) {
      return std::unexpected(status.error());
    }
  }
  return trial;
}

}  // namespace rivulet::node
