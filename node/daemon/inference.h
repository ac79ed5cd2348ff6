#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/package/release.h"
#include "models/package/version.h"
#include "models/runtime/inference.h"
#include "node/daemon/metrics.h"
#include "protocol/result.h"

namespace rivulet::node {

/// A model that answers, and what it is. Immutable.
struct ServedModel {
  InferenceModel model;
  VersionNumber version = 0;
  std::uint64_t manifest_version = 0;
  std::string variant;
  /// Raw samples that it is known to answer, [n * input_size], at least one: they tell a broken model from an
  /// input so large that no model could answer it.
  std::vector<float> known_inputs;
};

std::shared_ptr<const ServedModel> make_served_model(InferenceModel model, const Release& release,
                                                     const VersionManifest& manifest,
                                                     const std::string& variant);

/// @param weights of the variant, [layout.size()]. @return the errors of InferenceModel::load.
Result<std::shared_ptr<const ServedModel>> load_served_model(const Release& release,
                                                             std::span<const float> weights,
                                                             const VersionManifest& manifest,
                                                             const std::string& variant,
                                                             const EngineSetup& setup = {});

/// The answers to one request, all of the same model.
struct Answers {
  std::shared_ptr<const ServedModel> served;  ///< Shared with whoever else answers by it just now.
  std::vector<Result<Prediction>> results;    ///< In the order of the samples.
  double microseconds = 0;                    ///< For each sample.
};

/// Answers with the model in service while another takes its place: each request has the model that
/// served when it began, and none waits. Thread-safe.
class Inference {
 public:
  /// Told once of each model that fails on its own known inputs, from an answering thread.
  using OnFailure = std::function<void(std::uint64_t manifest_version, const std::string& detail)>;

  explicit Inference(Metrics& metrics) : metrics_(metrics) {}

  /// Before the first swap(); requests may come already.
  void set_on_failure(OnFailure on_failure) { on_failure_ = std::move(on_failure); }
  void swap(std::shared_ptr<const ServedModel> model);
  /// Null when none serves.
  [[nodiscard]] std::shared_ptr<const ServedModel> served() const { return served_.load(); }

  /// A result of its own for each sample: invalid names the expected and the given count.
  /// @return busy when no model serves.
  Result<Answers> answer(std::span<const std::vector<float>> samples);
  /// @param samples [n * input_size]. @return busy; invalid if it is not a whole number of samples.
  Result<Answers> answer(std::span<const float> samples);

  [[nodiscard]] std::uint64_t inferences() const { return inferences_.load(); }
  [[nodiscard]] std::uint64_t errors() const { return errors_.load(); }

 private:
  void run(Answers& answers, std::span<const std::vector<float>> samples);
  void judge_failure(const ServedModel& served, const std::string& detail);

  Metrics& metrics_;
  OnFailure on_failure_;
  // Shared by this and the requests under way: the last one to end frees a model that was replaced.
  std::atomic<std::shared_ptr<const ServedModel>> served_;
  std::atomic<std::uint64_t> inferences_ = 0;
  std::atomic<std::uint64_t> errors_ = 0;
  std::atomic<std::uint64_t> reported_ = 0;  // the manifest version that on_failure_ was told of last
};

}  // namespace rivulet::node
