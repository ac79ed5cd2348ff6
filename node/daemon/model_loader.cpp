#include "node/daemon/model_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "link/log.h"
#include "models/runtime/calibration.h"
#include "models/runtime/release_model.h"

namespace rivulet::node {
namespace {

/// Of the classes that a node's own samples get, in int8 so many may differ from those in float.
constexpr double disagreement_max = 0.02;

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

/// Whether int8 gives the node's own samples the classes that float gives them. What answers values is held
/// to the known answers alone.
bool agrees(const EngineQuestion& question, const InferenceModel& in_int8, std::span<const float> samples) {
  if (question.spec.task != TaskKind::classification) return true;
  const auto in_float = InferenceModel::load(question.spec, question.weights);
  if (!in_float) return false;
  const auto some = in_int8.infer_batch(samples);
  const auto others = in_float->infer_batch(samples);
  if (!some || !others) return false;
  std::size_t differ = 0;
  for (std::size_t i = 0; i < some->size(); ++i) {
    differ += (*some)[i].class_index != (*others)[i].class_index ? 1 : 0;
  }
  return static_cast<double>(differ) <= disagreement_max * static_cast<double>(some->size());
}

/// A device that was to answer in int8 and does not is slower than its operator expects.
void log_float_instead(const VersionManifest& manifest, const std::string& variant, std::string why) {
  log_event(
      LogLevel::warning, "int8_not_used",
      {{"version", std::to_string(manifest.version)}, {"variant", variant}, {"detail", std::move(why)}});
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

Result<std::shared_ptr<const ServedModel>> ModelLoader::load(const Activation& ready,
                                                             const VersionManifest& manifest,
                                                             const std::string& variant,
                                                             const OwnSamples& own) {
  const auto info = std::ranges::find(manifest.variants, variant, &VariantInfo::name);
  if (info == manifest.variants.end()) {
    return fail(Errc::refused, "the manifest names no variant " + variant, Reason::bad_manifest);
  }
  const Release& release = ready.release;
  EngineQuestion question{.spec = inference_spec(release), .weights = ready.weights};
  question.stop = &stop_;
  question.fp32 = {release.known_inputs, info->known_outputs, info->tolerance};
  const auto truth = reference_answers(question.spec, ready.weights, release.known_inputs);
  if (!truth) return std::unexpected(truth.error());
  const bool own_statistics = release.batch_norm == BatchNorm::local;
  // With statistics of its own the node's answers are nobody else's: engines are held to each other.
  if (own_statistics) question.fp32.outputs = *truth;
  question.int8 = {release.known_inputs, *truth, int8_tolerance_of(release.task, *truth)};
  std::optional<ActivationRanges> ranges;  // Nothing: nobody has scored int8, or can.
  if (info->int8_kernels && !own_statistics) {
    question.int8.tolerance = std::min(question.int8.tolerance, info->int8_kernels->tolerance);
    if (all_within(info->int8_kernels->known_outputs, *truth, question.int8.tolerance)) {
      ranges = info->int8_kernels->ranges;
    } else {
      log_float_instead(manifest, variant,
                        fmt::format("the manifest's answers in int8 are more than {} off those in float here",
                                    question.int8.tolerance));
    }
  } else if (info->own_ranges) {
    ranges = find_own_ranges(question, own);
  }
  const auto in_float = [](EngineKind kind) { return !is_int8(kind); };
  if (!ranges) keep(question, in_float);
  if (ranges && ranges->values.empty()) {
    keep(question, [](EngineKind kind) { return kind != EngineKind::int8_static; });
  }
  if (ranges && !ranges->values.empty()) question.ranges = &*ranges;
  const bool checkable = own.check.size() >= check_min * question.spec.architecture.input_size();
  const bool compares = checkable && release.task == TaskKind::classification;  // As agrees() does.
  // The manifest's int8 was scored with its ranges: of dynamic int8 a few known answers alone would tell.
  if (question.ranges != nullptr && !compares) {
    keep(question, [](EngineKind kind) { return kind != EngineKind::int8_dynamic; });
  }
  Remembered wanted{manifest.release, variant, ranges.has_value(), {}};
  auto model = choose(question, wanted, manifest.version);
  if (model && checkable && is_int8(model->engine().kind) && !agrees(question, *model, own.check)) {
    log_float_instead(manifest, variant,
                      fmt::format("more than {} % of this node's own samples get another class in int8",
                                  100 * disagreement_max));
    keep(question, in_float);
    wanted.has_int8 = false;
    model = choose(question, wanted, manifest.version);
  }
  if (!model) return std::unexpected(model.error());
  return make_served_model(std::move(*model), release, manifest, variant);
}

}  // namespace rivulet::node
