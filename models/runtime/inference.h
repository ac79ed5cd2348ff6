#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/layout.h"
#include "models/package/preprocessing.h"
#include "models/quantization/engine.h"
#include "models/quantization/ranges.h"
#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet {

struct InferenceSpec {
  Architecture architecture;
  ParameterLayout layout;  ///< As the release signs it; it must be the architecture's.
  TaskKind task = TaskKind::classification;
  Preprocessing preprocessing;
  std::vector<std::string> classes;  ///< Names of a classification's outputs, or empty.
  Bytes graph = {};                  ///< The TorchScript file of an architecture "torchscript", else empty.
};

/// Whether specification and weights make a model. @param weights [spec.layout.size()].
/// @return invalid when the parts don't fit each other, corrupt when a weight is not finite.
Status check(const InferenceSpec& spec, std::span<const float> weights);

/// How a model is to be run.
struct EngineSetup {
  Engine engine{};  ///< By default fp32, optimized for inference.
  /// Of EngineKind::int8_static, from calibrate() on the same network; the others don't look at it.
  ActivationRanges ranges{};

  bool operator==(const EngineSetup&) const = default;
};

/// More samples than this run one batch after the other: it bounds the memory of activations.
inline constexpr std::size_t inference_batch = 32;

/// The answer to one sample: of a classification the class and the probabilities, else the values.
struct Prediction {
  std::int64_t class_index = -1;     ///< -1 unless a classification; a tie goes to the lower index.
  std::vector<float> probabilities;  ///< [outputs], their sum is 1.
  std::vector<float> value;  ///< Regression: [outputs]. Anomaly: [1], the error of rebuilding the input.

  bool operator==(const Prediction&) const = default;
};

/// A loaded model that answers requests. Immutable, and thread-safe: share one among all callers. In int8
/// it may hold weights packed twice, for single samples and for batches, since LibTorch's int8 layers are
/// fastest at the shape that they meet first; both are warm when load() returns.
class InferenceModel {
 public:
  struct Impl;

  /// @param weights [layout.size()], finite; the model keeps its own copy.
  /// @return invalid when the parts don't fit each other, corrupt when a weight or an answer is not
  /// finite, unsupported where the engine can't run this model, internal if LibTorch fails.
  static Result<InferenceModel> load(const InferenceSpec& spec, std::span<const float> weights,
                                     const EngineSetup& setup = {});

  explicit InferenceModel(std::unique_ptr<const Impl> impl);
  InferenceModel(InferenceModel&&) noexcept;
  InferenceModel& operator=(InferenceModel&&) noexcept;
  ~InferenceModel();

  [[nodiscard]] const InferenceSpec& spec() const;
  [[nodiscard]] const Engine& engine() const;
  /// How many numbers a sample has.
  [[nodiscard]] std::size_t input_size() const;

  /// @return invalid, with both counts or the place, on a wrong length or a number that is not finite.
  [[nodiscard]] Status check(std::span<const float> raw_sample) const;
  /// @param raw_sample [input_size()], as it was measured: the model preprocesses it.
  /// @return the errors of check, corrupt when the answer is not finite.
  [[nodiscard]] Result<Prediction> infer(std::span<const float> raw_sample) const;
  /// Several samples at once. @param raw_samples [n * input_size()]. An error names the sample by its index.
  [[nodiscard]] Result<std::vector<Prediction>> infer_batch(std::span<const float> raw_samples) const;

 private:
  std::unique_ptr<const Impl> impl_;
};

}  // namespace rivulet
