#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/quantization/engine.h"
#include "models/runtime/inference.h"
#include "models/runtime/int8/backend.h"
#include "protocol/result.h"

namespace rivulet {

/// What a right engine answers to these inputs. Outputs are those of answers_of: the probabilities of a
/// classification, else the values.
struct KnownAnswers {
  std::span<const float> inputs;   ///< Raw samples, [n * input_size], n at least 1.
  std::span<const float> outputs;  ///< [n * outputs a sample].
  float tolerance = 0;             ///< The greatest difference of any number.
};

/// All predictions' probabilities (of a classification) or values, one after the other.
std::vector<float> answers_of(TaskKind task, std::span<const Prediction> predictions);

/// Whether the model answers what is known, to one sample at a time and to all at once.
/// @return refused with the place and both numbers; the errors of infer.
Status check_answers(const InferenceModel& model, const KnownAnswers& known);

/// What the network as it is answers, by no optimization: the truth that coordinator and nodes hold every
/// engine to. @param weights [spec.layout.size()]. @param raw_samples [n * input_size]. @return as
/// answers_of; the errors of InferenceModel::load and infer_batch.
Result<std::vector<float>> reference_answers(const InferenceSpec& spec, std::span<const float> weights,
                                             std::span<const float> raw_samples);

/// How the latency of an engine is measured: the median of calls with one sample, after `warm_up` of them.
struct LatencyPlan {
  std::size_t warm_up = 5;
  std::size_t calls_min = 3;  ///< However long they take.
  std::size_t calls_max = 200;
  /// Of the warm-up, and again of the calls: no other call begins after it.
  std::chrono::nanoseconds time_max = std::chrono::milliseconds(300);
  /// An engine whose first calls, three of them, all take so many times as long as another's is measured no
  /// further.
  double slower_max = 3;
};

/// A monotonic clock; injected.
using Stopwatch = std::function<std::chrono::nanoseconds()>;
/// That of this machine.
Stopwatch steady_stopwatch();

/// Microseconds a call of infer() takes; of an engine that is given up, the least of its calls.
/// @param sample [input_size]. @param best microseconds of another engine, to be faster than; nothing: the
/// engine is measured as the plan says. @return the errors of infer.
Result<double> measure_latency(const InferenceModel& model, std::span<const float> sample,
                               const LatencyPlan& plan, const Stopwatch& now,
                               std::optional<double> best = std::nullopt);

struct EngineQuestion {
  InferenceSpec spec;
  std::span<const float> weights;            ///< [spec.layout.size()]
  const ActivationRanges* ranges = nullptr;  ///< Null: there are none, so no static int8.
  KnownAnswers fp32{};                       ///< What the fp32 engines are held to.
  KnownAnswers int8{};  ///< What the int8 engines are held to: other outputs, or a wider tolerance.
  std::vector<Engine> candidates = candidate_engines();
  const std::atomic<bool>* stop = nullptr;  ///< Looked at before each candidate; may be null.
  LatencyPlan latency = {};
};

struct EngineChoice {
  EngineSetup setup;                         ///< For InferenceModel::load.
  std::vector<EngineTrial> trials;           ///< Of every candidate, in their order: for the log.
  std::optional<InferenceModel> model = {};  ///< Loaded with `setup`; choose_engine() always sets it.
};

/// Loads every candidate in turn, holds it against the known answers one sample at a time and in a batch,
/// times it, and takes the fastest right one (see choose()). One that is clearly slower than a right one
/// before it is given up after a few calls. Beside the candidate on trial only the best one so far is loaded.
/// Call it on a thread that use_one_thread() governs, with nothing else running, or the times mislead.
/// @return cancelled if it was stopped; invalid when question and answers don't fit each other; unsupported,
/// with all the reasons, when no candidate is right.
Result<EngineChoice> choose_engine(const EngineQuestion& question, const Stopwatch& now);

/// One line for the log: "fp32-optimized 480 us, int8-static-onednn 190 us (taken), int8-static-qnnpack
/// refused: …".
std::string describe(const EngineChoice& choice);

}  // namespace rivulet
