#include "node/daemon/inference.h"

#include <spdlog/fmt/fmt.h>

#include <chrono>

#include "models/runtime/release_model.h"

namespace rivulet::node {
namespace {

Error no_model() { return {Errc::busy, "no model serves yet: the node awaits its first version"}; }

}  // namespace

std::shared_ptr<const ServedModel> make_served_model(InferenceModel model, const Release& release,
                                                     const VersionManifest& manifest,
                                                     const std::string& variant) {
  return std::make_shared<const ServedModel>(ServedModel{
      std::move(model), manifest.version, manifest.manifest_version, variant, release.known_inputs});
}

Result<std::shared_ptr<const ServedModel>> load_served_model(const Release& release,
                                                             std::span<const float> weights,
                                                             const VersionManifest& manifest,
                                                             const std::string& variant,
                                                             const EngineSetup& setup) {
  auto model = InferenceModel::load(inference_spec(release), weights, setup);
  if (!model) return std::unexpected(model.error());
  return make_served_model(std::move(*model), release, manifest, variant);
}

void Inference::swap(std::shared_ptr<const ServedModel> model) {
  metrics_.model_swapped(model ? model->version : 0);
  served_.store(std::move(model));
}

Result<Answers> Inference::answer(std::span<const std::vector<float>> samples) {
  Answers answers;
  answers.served = served_.load();
  if (!answers.served) return std::unexpected(no_model());
  run(answers, samples);
  return answers;
}

Result<Answers> Inference::answer(std::span<const float> samples) {
  Answers answers;
  answers.served = served_.load();
  if (!answers.served) return std::unexpected(no_model());
  const std::size_t size = answers.served->model.input_size();
  if (samples.empty() || samples.size() % size != 0) {
    return fail(Errc::invalid,
                fmt::format("{} numbers were given, and a sample has {}: send a multiple of that",
                            samples.size(), size));
  }
  std::vector<std::vector<float>> rows;
  rows.reserve(samples.size() / size);
  for (std::size_t at = 0; at < samples.size(); at += size) {
    rows.emplace_back(samples.begin() + static_cast<std::ptrdiff_t>(at),
                      samples.begin() + static_cast<std::ptrdiff_t>(at + size));
  }
  run(answers, rows);
  return answers;
}

void Inference::run(Answers& answers, std::span<const std::vector<float>> samples) {
  const InferenceModel& model = answers.served->model;
  std::vector<float> good;
  std::vector<std::size_t> places;  // of the good samples among all
  answers.results.reserve(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (const auto sound = model.check(samples[i]); !sound) {
      answers.results.emplace_back(std::unexpected(sound.error()));
      continue;
    }
    answers.results.emplace_back(Prediction{});
    places.push_back(i);
    good.insert(good.end(), samples[i].begin(), samples[i].end());
  }
  if (places.empty()) return;

  const auto begin = std::chrono::steady_clock::now();
  auto predictions = model.infer_batch(good);
  std::uint64_t failed = 0;
  for (std::size_t k = 0; k < places.size(); ++k) {
    auto& result = answers.results[places[k]];
    // One sample that cannot be answered does not take the others with it.
    result = predictions ? Result<Prediction>(std::move((*predictions)[k])) : model.infer(samples[places[k]]);
    if (!result) ++failed;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double seconds_each = seconds / static_cast<double>(places.size());
  answers.microseconds = 1e6 * seconds_each;

  inferences_ += places.size() - failed;
  errors_ += failed;
  metrics_.inferred(places.size() - failed, seconds_each);
  if (failed == 0) return;
  metrics_.inference_failed(failed);
  for (const std::size_t place : places) {
    if (!answers.results[place]) return judge_failure(*answers.served, answers.results[place].error().detail);
  }
}

/// Only the known inputs tell whether the model is to blame: any number of others may be too large for it.
void Inference::judge_failure(const ServedModel& served, const std::string& detail) {
  if (served.known_inputs.empty() || served.model.infer_batch(served.known_inputs)) return;
  const auto current = served_.load();
  if (!current || current->manifest_version != served.manifest_version) return;
  if (reported_.exchange(served.manifest_version) == served.manifest_version) return;
  if (on_failure_) on_failure_(served.manifest_version, detail);
}

}  // namespace rivulet::node
