#include "coordinator/server/torch_runner.h"

#include <limits>
#include <optional>

#include "models/runtime/evaluation.h"
#include "models/runtime/inference.h"
#include "models/runtime/model.h"
#include "models/runtime/preprocessing.h"
#include "models/runtime/release_model.h"

namespace rivulet::coordinator {
namespace {

class TorchRunner final : public ModelRunner {
 public:
  Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                     std::span<const float> inputs) override {
    const auto model = InferenceModel::load(inference_spec(release), weights);
    if (!model) return std::unexpected(model.error());
    const auto predictions = model->infer_batch(inputs);
    if (!predictions) return std::unexpected(predictions.error());
    std::vector<float> answers;
    for (const Prediction& prediction : *predictions) {
      const auto& values =
          release.task == TaskKind::classification ? prediction.probabilities : prediction.value;
      answers.insert(answers.end(), values.begin(), values.end());
    }
    return answers;
  }

  Result<Metrics> score(const Release& release, std::span<const float> weights,
                        const ScoringData& data) override {
    if (release.task == TaskKind::regression) {
      return fail(Errc::unsupported, "a regression has no classes to score it on: let nodes judge it");
    }
    if (Status status = load(release); !status) return std::unexpected(status.error());
    if (Status status = model_->set_weights(weights); !status) return std::unexpected(status.error());
    const auto preprocessor = Preprocessor::make(release.preprocessing, release.architecture.input_shape);
    if (!preprocessor) return std::unexpected(preprocessor.error());
    std::vector<float> inputs = data.inputs;
    preprocessor->apply(inputs);
    const auto evaluation = release.task == TaskKind::classification
                                ? evaluate(*model_, inputs, data.labels)
                                : evaluate_values(*model_, inputs, inputs);
    if (!evaluation && evaluation.error().code == Errc::corrupt) {
      // An answer that is no number says enough of a model: that it was scored, and what it is worth.
      return Metrics{0, std::numeric_limits<double>::quiet_NaN(), data.labels.size()};
    }
    if (!evaluation) return std::unexpected(evaluation.error());
    return Metrics{evaluation->accuracy(), evaluation->mean_loss(), evaluation->samples};
  }

 private:
  Status load(const Release& release) {
    if (model_ && is_model_of(*model_, release)) return {};
    auto model = build_model(release);
    if (!model) return std::unexpected(model.error());
    model_.emplace(std::move(*model));
    return {};
  }

  std::optional<Model> model_;
};

}  // namespace

std::unique_ptr<ModelRunner> make_torch_runner() { return std::make_unique<TorchRunner>(); }

}  // namespace rivulet::coordinator
