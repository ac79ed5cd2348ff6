#include "node/daemon/model_loader.h"

#include <algorithm>

#include "link/log.h"
#include "models/runtime/release_model.h"

namespace rivulet::node {
namespace {

Result<std::vector<float>> answer_in_float(const InferenceSpec& spec, const Activation& ready) {
  const auto model = InferenceModel::load(spec, ready.weights, {rivulet::Engine{.kind = EngineKind::fp32_script}, {}});
  if (!model) return std::unexpected(model.error());
  const auto predictions = model->infer_batch(ready.release.known_inputs);
  if (!predictions) return std::unexpected(predictions.error());
  return answers_of(spec.task, *predictions);
}

}  // namespace

Result<EngineSetup> ModelLoader::choose(const EngineQuestion& question, const Remembered& wanted,
                                        VersionNumber version) {
  if (remembered_ && remembered_->release == wanted.release && remembered_->variant == wanted.variant &&
      remembered_->has_int8 == wanted.has_int8) {
    EngineQuestion again = question;
    again.candidates = {remembered_->engine};
    again.latency = {.warm_up = 0, .calls_min = 1, .calls_max = 1};  // What counts is that it is right.
    if (auto choice = choose_engine(again, stopwatch_)) return std::move(choice->setup);
  }
  auto choice = choose_engine(question, stopwatch_);
  if (!choice) {
    const bool wrong = choice.error().code == Errc::unsupported;
    return fail(Errc::refused, choice.error().detail,
                wrong ? Reason::known_answers_wrong : Reason::not_loadable);
  }
  log_event(
      LogLevel::info, "engine_chosen",
      {{"version", std::to_string(version)}, {"variant", wanted.variant}, {"detail", describe(*choice)}});
  remembered_ = wanted;
  remembered_->engine = choice->setup.engine;
  return std::move(choice->setup);
}

Result<std::shared_ptr<const ServedModel>> ModelLoader::load(const Activation& ready,
                                                             const VersionManifest& manifest,
                                                             const std::string& variant) {
  const auto info = std::ranges::find(manifest.variants, variant, &VariantInfo::name);
  if (info == manifest.variants.end()) {
    return fail(Errc::refused, "the manifest names no variant " + variant, Reason::bad_manifest);
  }
  const Release& release = ready.release;
  EngineQuestion question{.spec = inference_spec(release), .weights = ready.weights};
  question.fp32 = {release.known_inputs, info->known_outputs, info->tolerance};
  question.int8 = question.fp32;
  std::vector<float> own;
  if (release.batch_norm == BatchNorm::local) {
    // With statistics of its own the node's answers are nobody else's: engines are held to each other.
    auto answers = answer_in_float(question.spec, ready);
    if (!answers) return std::unexpected(answers.error());
    own = std::move(*answers);
    question.fp32.outputs = own;
    question.int8.outputs = own;
  } else if (info->static_int8) {
    question.ranges = &info->static_int8->ranges;
    question.int8 = {release.known_inputs, info->static_int8->known_outputs, info->static_int8->tolerance};
  }
  // Nobody has scored int8 where the manifest says nothing of it.
  if (question.ranges == nullptr) {
    std::erase_if(question.candidates, [](const rivulet::Engine& engine) { return is_int8(engine.kind); });
  }
  const Remembered wanted{manifest.release, variant, question.ranges != nullptr, {}};
  const auto setup = choose(question, wanted, manifest.version);
  if (!setup) return std::unexpected(setup.error());
  return load_served_model(release, ready.weights, manifest, variant, *setup);
}

}  // namespace rivulet::node
