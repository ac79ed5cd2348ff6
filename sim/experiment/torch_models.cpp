#include "sim/experiment/torch_models.h"

#include "models/package/snapshot.h"
#include "models/runtime/evaluation.h"
#include "models/runtime/preprocessing.h"
#include "models/runtime/release_model.h"
#include "models/runtime/training_plan.h"

namespace rivulet::sim {
namespace {

constexpr std::size_t scores_kept = 8;

}  // namespace

ModelShelf::Lease::~Lease() {
  if (!model_) return;
  const std::lock_guard lock(shelf_->mutex_);
  shelf_->free_.push_back(std::move(model_));
}

Result<ModelShelf::Lease> ModelShelf::take(const Release& release) {
  std::unique_ptr<Model> model;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      model = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (!model || !is_model_of(*model, release)) {
    auto built = build_model(release);
    if (!built) return std::unexpected(built.error());
    model = std::make_unique<Model>(std::move(*built));
  }
  return Lease(*this, std::move(model));
}

Result<node::TrainingResult> SharedEngine::train(const Release& release, std::span<const float> base,
                                                 const message::TrainingPlan& plan,
                                                 const std::atomic<bool>& stop) {
  const auto model = shelf_.take(release);
  if (!model) return std::unexpected(model.error());
  const auto parameters = training_parameters(plan, release);
  if (!parameters) return std::unexpected(parameters.error());
  auto outcome = rivulet::train(
      **model, base,
      {.inputs = samples_.inputs, .labels = samples_.labels, .targets = {}, .task = release.task},
      *parameters, &stop);
  if (!outcome) return std::unexpected(outcome.error());
  if (outcome->end == TrainingEnd::stopped) return fail(Errc::cancelled, "the training was stopped");
  if (outcome->end == TrainingEnd::diverged)
    return fail(Errc::refused, outcome->detail, Reason::training_diverged);
  return node::TrainingResult{.delta = std::move(outcome->delta),
                              .samples = outcome->samples,
                              .loss_first = outcome->loss_first,
                              .loss_last = outcome->loss_last};
}

Result<node::HoldoutScore> SharedEngine::score(const Release& release, std::span<const float> weights) {
  if (samples_.holdout_labels.empty()) return node::HoldoutScore{};
  const auto model = shelf_.take(release);
  if (!model) return std::unexpected(model.error());
  if (const auto status = (*model)->set_weights(weights); !status) return std::unexpected(status.error());
  auto evaluation = evaluate(**model, samples_.holdout_inputs, samples_.holdout_labels);
  if (!evaluation) return std::unexpected(evaluation.error());
  return node::HoldoutScore{.right = std::move(evaluation->right), .loss_sum = evaluation->loss_sum};
}

Result<std::vector<float>> SharedEngine::answers(const Release& release, std::span<const float> weights,
                                                 std::span<const float> inputs) {
  const auto preprocessor = Preprocessor::make(release.preprocessing, release.architecture.input_shape);
  if (!preprocessor) return std::unexpected(preprocessor.error());
  const auto model = shelf_.take(release);
  if (!model) return std::unexpected(model.error());
  if (const auto status = (*model)->set_weights(weights); !status) return std::unexpected(status.error());
  std::vector<float> prepared(inputs.begin(), inputs.end());
  preprocessor->apply(prepared);
  auto answers = (*model)->forward(prepared, prepared.size() / preprocessor->input_size());
  if (!answers) return answers;
  const auto outputs = static_cast<std::size_t>(release.architecture.outputs);
  for (std::size_t at = 0; at + outputs <= answers->size(); at += outputs) {
    softmax(std::span(*answers).subspan(at, outputs));
  }
  return answers;
}

Result<coordinator::Metrics> RememberingRunner::score(const Release& release, std::span<const float> weights,
                                                      const coordinator::ScoringData& data) {
  const Digest hash = weights_hash_of(weights);
  for (const Entry& entry : entries_) {
    if (entry.weights == hash && entry.data == &data) return entry.metrics;
  }
  const auto metrics = runner_->score(release, weights, data);
  if (!metrics) return metrics;
  entries_.push_back({hash, &data, *metrics});
  if (entries_.size() > scores_kept) entries_.pop_front();
  return metrics;
}

}  // namespace rivulet::sim
