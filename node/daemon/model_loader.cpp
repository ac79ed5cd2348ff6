#include "node/daemon/model_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "link/log.h"
#include "models/package/snapshot.h"
#include "models/runtime/calibration.h"
#include "models/runtime/release_model.h"
#include "node/core/variant_choice.h"
#include "node/daemon/int8_check.h"

namespace rivulet::node {
namespace {

/// Ranges on the node's own samples, none if static int8 is not possible; nothing if samples are too few.
std::optional<ActivationRanges> find_own_ranges(const EngineQuestion& question, const OwnSamples& own) {
  const std::size_t size = question.spec.architecture.input_size();
  if (own.calibration.size() < ModelLoader::calibration_min * size) return std::nullopt;
  if (own.check.size() < ModelLoader::check_min * size) return std::nullopt;
  return calibrate(question.spec, question.weights, own.calibration).value_or(ActivationRanges{});
}

void keep(EngineQuestion& question, const std::function<bool(EngineKind)>& kinds) {
  std::erase_if(question.candidates, [&](const rivulet::Engine& engine) { return !kinds(engine.kind); });
}

/// Written so that a NaN on either side fails.
bool all_within(std::span<const float> some, std::span<const float> others, float tolerance) {
  const auto near = [tolerance](float a, float b) { return std::abs(a - b) <= tolerance; };
  return std::ranges::equal(some, others, near);
}

/// What the node's own samples say against int8.
std::optional<std::string> find_own_fault(const EngineQuestion& question, const InferenceModel& in_int8,
                                          std::span<const float> samples) {
  const auto in_float = InferenceModel::load(question.spec, question.weights);
  if (!in_float) return in_float.error().detail;
  const auto expected = in_float->infer_batch(samples);
  if (!expected) return expected.error().detail;
  const auto answers = in_int8.infer_batch(samples);
  if (!answers) return answers.error().detail;
  return find_int8_fault(question.spec.task, *expected, *answers);
}

bool in_float(EngineKind kind) { return !is_int8(kind); }

/// A device that was to answer in int8 and does not is slower than its operator expects.
void log_not_used(const VersionManifest& manifest, const std::string& variant, std::string why) {
  log_event(
      LogLevel::warning, "int8_not_used",
      {{"version", std::to_string(manifest.version)}, {"variant", variant}, {"detail", std::move(why)}});
}

/// The ranges by which int8 may run, none where only dynamic int8 may; nothing: nobody has scored int8, or
/// can. Narrows what int8 is held to.
std::optional<ActivationRanges> find_ranges(EngineQuestion& question, const VersionManifest& manifest,
                                            const VariantInfo& info, bool own_statistics,
                                            const OwnSamples& own) {
  if (!info.int8_kernels || own_statistics) {
    return info.own_ranges ? find_own_ranges(question, own) : std::nullopt;
  }
  KnownAnswers& held_to = question.int8;
  held_to.tolerance = std::min(held_to.tolerance, info.int8_kernels->tolerance);
  if (all_within(info.int8_kernels->known_outputs, held_to.outputs, held_to.tolerance))
    return info.int8_kernels->ranges;
  log_not_used(manifest, info.name,
               fmt::format("the manifest's answers in int8 are more than {} off those in float here",
                           held_to.tolerance));
  return std::nullopt;
}

/// What float is held to, and int8 by nothing but float's own answers on this node.
EngineQuestion question_of(const Activation& ready, const VariantInfo& info,
                           const std::vector<float>& truth) {
  const Release& release = ready.release;
  EngineQuestion question{.spec = inference_spec(release), .weights = ready.weights};
  question.fp32 = {release.known_inputs, info.known_outputs, info.tolerance};
  // With statistics of its own the node's answers are nobody else's: engines are held to each other.
  if (release.batch_norm == BatchNorm::local) question.fp32.outputs = truth;
  question.int8 = {release.known_inputs, truth, int8_tolerance_of(release.task, truth)};
  return question;
}

/// The choice of the variant counted on int8, where that was scored.
bool fits_in_float(const Release& release, const VariantInfo& info, std::uint64_t memory_max) {
  const WeightBytes weights{.fp32 = snapshot_size(SnapshotForm::fp32, release.layout)};
  return memory_max == 0 || !info.int8_kernels || memory_of(info, weights, false) <= memory_max;
}

}  // namespace

Result<InferenceModel> ModelLoader::choose(const EngineQuestion& question, const Remembered& wanted,
                                           VersionNumber version) {
  if (remembered_ && remembered_->release == wanted.release && remembered_->variant == wanted.variant &&
      remembered_->has_int8 == wanted.has_int8 &&
      std::ranges::find(question.candidates, remembered_->engine) != question.candidates.end()) {
    EngineQuestion again = question;
    again.candidates = {remembered_->engine};
    again.latency = {.warm_up = 0, .calls_min = 1, .calls_max = 1};  // What counts is that it is right.
    if (auto choice = choose_engine(again, stopwatch_)) return std::move(*choice->model);
  }
  auto choice = choose_engine(question, stopwatch_);
  if (!choice && choice.error().code == Errc::cancelled) return std::unexpected(choice.error());
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
  return std::move(*choice->model);
}

Result<InferenceModel> ModelLoader::choose_checked(EngineQuestion& question, Remembered wanted,
                                                   const VersionManifest& manifest,
                                                   std::span<const float> own_check) {
  auto model = choose(question, wanted, manifest.version);
  if (!model || !is_int8(model->engine().kind) || own_check.empty()) return model;
  auto fault = find_own_fault(question, *model, own_check);
  if (!fault) return model;
  log_not_used(manifest, wanted.variant, *fault);
  keep(question, in_float);
  if (question.candidates.empty()) {
    return fail(Errc::refused, std::move(*fault), Reason::known_answers_wrong);
  }
  wanted.has_int8 = false;
  return choose(question, wanted, manifest.version);
}

Result<std::shared_ptr<const ServedModel>> ModelLoader::load(const Activation& ready,
                                                             const VersionManifest& manifest,
                                                             const std::string& variant, OwnSamples own,
                                                             std::uint64_t memory_max) {
  const auto info = std::ranges::find(manifest.variants, variant, &VariantInfo::name);
  if (info == manifest.variants.end()) {
    return fail(Errc::refused, "the manifest names no variant " + variant, Reason::bad_manifest);
  }
  const Release& release = ready.release;
  const auto truth = reference_answers(inference_spec(release), ready.weights, release.known_inputs);
  if (!truth) return std::unexpected(truth.error());
  EngineQuestion question = question_of(ready, *info, *truth);
  question.stop = &stop_;
  if (own.check.size() < check_min * release.architecture.input_size()) own.check = {};
  const auto ranges = find_ranges(question, manifest, *info, release.batch_norm == BatchNorm::local, own);
  if (ranges && !ranges->values.empty()) question.ranges = &*ranges;
  keep(question, [&](EngineKind kind) {
    if (kind == EngineKind::int8_static) return question.ranges != nullptr;
    // The manifest's int8 was scored with its ranges: of dynamic int8 a few known answers alone would tell.
    if (kind == EngineKind::int8_dynamic)
      return ranges && (question.ranges == nullptr || !own.check.empty());
    return fits_in_float(release, *info, memory_max);
  });
  auto model =
      choose_checked(question, {manifest.release, variant, ranges.has_value(), {}}, manifest, own.check);
  const bool no_room = !fits_in_float(release, *info, memory_max);
  if (!model && no_room && model.error().reason == Reason::known_answers_wrong) {
    return fail(Errc::too_large,
                fmt::format("version {} does not fit into model.memory_max = {} of node.toml in float, and "
                            "in int8 it may not run here: {}",
                            manifest.version, memory_max, model.error().detail),
                Reason::too_large);
  }
  if (!model) return std::unexpected(model.error());
  return make_served_model(std::move(*model), release, manifest, variant);
}

}  // namespace rivulet::node
