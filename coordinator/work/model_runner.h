#pragma once

#include <optional>
#include <span>
#include <vector>

#include "coordinator/core/events.h"
#include "models/package/release.h"
#include "models/quantization/ranges.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

/// Samples that the coordinator scores on: a release's holdout or test split.
struct ScoringData {
  std::vector<float> inputs;         ///< [n * input_size] raw, as they were measured.
  std::vector<std::int64_t> labels;  ///< [n]; 0 unless a classification.
  std::vector<float> targets{};      ///< [n] of a regression, else empty.
};

/// A model in int8.
struct Int8Outcome {
  ActivationRanges ranges;           ///< Found on the holdout; none where only dynamic int8 is possible.
  std::vector<float> known_outputs;  ///< Answers to the release's known inputs, as ModelRunner::answers.
  Metrics holdout;
  std::optional<Metrics> test;  ///< If there is one.
};

/// What it takes to serve a variant on this machine.
struct VariantCost {
  std::uint64_t activation_bytes = 0;
  double microseconds = 0;  ///< For one sample.
};

/// Runs models for the coordinator's worker: LibTorch in the daemon and the simulator. One thread at a
/// time uses it.
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  /// What inference answers to raw samples: probabilities of a classification, else values.
  /// @param weights [layout.size()] @param inputs [n * input_size] @return [n * outputs]
  virtual Result<std::vector<float>> answers(const Release& release, std::span<const float> weights,
                                             std::span<const float> inputs) = 0;
  /// @return a loss that is not finite if one of the answers is not.
  virtual Result<Metrics> score(const Release& release, std::span<const float> weights,
                                const ScoringData& data) = 0;
  /// Finds the activation ranges for static int8 on the holdout, and what the model is worth with them; where
  /// static int8 is not possible the same of dynamic int8.
  /// @param test may be null. @return nothing where no int8 engine is there to try; unsupported where none
  /// runs this model.
  virtual Result<std::optional<Int8Outcome>> run_in_int8(const Release& release,
                                                         std::span<const float> weights,
                                                         const ScoringData& holdout,
                                                         const ScoringData* test) {
    static_cast<void>(release), static_cast<void>(weights);
    static_cast<void>(holdout), static_cast<void>(test);
    return std::nullopt;
  }
  /// @param ranges of int8, as Int8Outcome has them; null: in float. @return nothing where nothing is
  /// measured.
  virtual Result<std::optional<VariantCost>> cost(const Release& release, std::span<const float> weights,
                                                  const ActivationRanges* ranges) {
    static_cast<void>(release), static_cast<void>(weights), static_cast<void>(ranges);
    return std::nullopt;
  }
  /// What a sample takes in int8 where each node finds ranges of its own, in microseconds: timed with those
  /// that the release's known inputs give, which serve for times, not for answers.
  /// @return nothing where no int8 engine runs this model, or nothing is measured.
  virtual std::optional<double> own_int8_time(const Release& release, std::span<const float> weights) {
    static_cast<void>(release), static_cast<void>(weights);
    return std::nullopt;
  }
  /// The processor that cost() is about; empty where nothing is measured.
  [[nodiscard]] virtual std::string reference() const { return {}; }
};

}  // namespace rivulet::coordinator
