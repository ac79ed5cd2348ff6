#include "models/runtime/profile/measure.h"

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <string>

#include "models/package/snapshot.h"
#include "models/package/version.h"
#include "models/runtime/calibration.h"
#include "models/runtime/inference.h"
#include "models/runtime/int8/backend.h"
#include "models/runtime/profile/meter.h"
#include "models/runtime/profile/peak_memory.h"
#include "models/runtime/release_model.h"

namespace rivulet {
namespace {

double percentile(std::vector<double> values, double part) {
  const auto at = static_cast<std::size_t>(part * static_cast<double>(values.size() - 1) + 0.5);
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(at));
  return values[at];
}

double microseconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

/// Times of single calls in microseconds. @return the first error of a call.
template <typename Call>
Result<std::vector<double>> time_calls(const ProfilePlan& plan, const Stopwatch& now, const Call& call) {
  for (std::size_t i = 0; i < plan.warm_up; ++i) {
    if (const auto answer = call(); !answer) return std::unexpected(answer.error());
  }
  std::vector<double> times;
  const auto begin = now();
  auto before = begin;
  while (times.size() < plan.calls_max && (times.size() < plan.calls_min || before - begin < plan.time_max)) {
    if (const auto answer = call(); !answer) return std::unexpected(answer.error());
    const auto after = now();
    times.push_back(microseconds(after - before));
    before = after;
  }
  return times;
}

/// Means over several passes; all of them run the same operators.
std::vector<OperatorTime> operators_of(const InferenceModel& model, std::span<const float> sample,
                                       std::size_t passes, std::uint64_t& tensor_bytes) {
  std::vector<OperatorTime> mean;
  for (std::size_t pass = 0; pass < passes; ++pass) {
    const Metered metered = meter([&] { std::ignore = model.infer(sample); });
    tensor_bytes = std::max(tensor_bytes, metered.tensor_bytes_max);
    if (mean.empty()) mean.resize(metered.operators.size());
    for (std::size_t i = 0; i < std::min(mean.size(), metered.operators.size()); ++i) {
      mean[i].name = metered.operators[i].name;
      mean[i].shape = metered.operators[i].shape;
      mean[i].microseconds += metered.operators[i].microseconds / static_cast<double>(passes);
    }
  }
  return mean;
}

Status measure(const InferenceSpec& spec, std::span<const float> weights, const EngineSetup& setup,
               const KnownAnswers& known, const ProfilePlan& plan, const PeakMemory& memory,
               const Stopwatch& now, EngineProfile& out) {
  const std::span<const float> sample = known.inputs.first(spec.architecture.input_size());
  ::malloc_trim(0);
  const std::optional<std::uint64_t> before = memory.reset();
  const auto model = InferenceModel::load(spec, weights, setup);
  if (!model) return std::unexpected(model.error());
  if (Status status = check_answers(*model, known); !status) return status;
  const auto times = time_calls(plan, now, [&] { return model->infer(sample); });
  if (!times) return std::unexpected(times.error());
  out.p50_us = percentile(*times, 0.50);
  out.p95_us = percentile(*times, 0.95);
  out.p99_us = percentile(*times, 0.99);
  std::vector<float> batch;
  for (std::size_t i = 0; i < inference_batch; ++i) batch.insert(batch.end(), sample.begin(), sample.end());
  const auto batches = time_calls(plan, now, [&] { return model->infer_batch(batch); });
  if (!batches) return std::unexpected(batches.error());
  out.samples_per_second = 1e6 * inference_batch / std::max(percentile(*batches, 0.50), 1e-3);
  const std::uint64_t peak = PeakMemory::bytes();
  if (before) out.peak_bytes = peak - std::min(peak, *before);
  out.operators = operators_of(*model, sample, plan.metered_calls, out.activation_bytes);
  return {};
}

/// The engine that a node would take: the fastest of those that it may, as choose() has it.
void mark_taken(std::span<EngineProfile> profiles, std::span<const Engine> engines, bool in_int8) {
  std::vector<EngineTrial> trials;
  for (std::size_t i = 0; i < profiles.size(); ++i) {
    const bool may = in_int8 || !is_int8(engines[i].kind);
    trials.push_back({engines[i], profiles[i].p50_us, may ? profiles[i].refusal : "not offered in int8"});
  }
  if (const auto taken = choose(trials)) profiles[*taken].taken = true;
}

Status profile_variant(const Release& release, std::span<const float> weights, const OfferedVariant& variant,
                       const ProfilePlan& plan, const PeakMemory& memory, const Stopwatch& now,
                       std::vector<EngineProfile>& all) {
  const InferenceSpec spec = inference_spec(release);
  const SnapshotForm form = variant_form(variant.name, release.snapshot);
  const auto bytes = encode_snapshot(form, release.layout, weights);
  if (!bytes) return std::unexpected(bytes.error());
  const auto served = decode_snapshot(form, release.layout, *bytes);
  if (!served) return std::unexpected(served.error());
  const auto answers = reference_answers(spec, *served, release.known_inputs);
  if (!answers) return std::unexpected(answers.error());
  const bool float_alone = dense_form(form) != SnapshotForm::int8;
  std::vector<Engine> engines = candidate_engines();
  if (float_alone) std::erase_if(engines, [](const Engine& engine) { return is_int8(engine.kind); });
  Result<ActivationRanges> ranges = variant.ranges.value_or(ActivationRanges{});
  if (!float_alone && !variant.ranges) ranges = calibrate(spec, *served, release.known_inputs);
  const std::size_t first = all.size();
  for (const Engine& engine : engines) {
    EngineProfile profile{.variant = variant.name, .engine = name(engine)};
    profile.file_bytes = bytes->size();
    profile.parameters = release.layout.size();
    Status status;
    if (engine.kind == EngineKind::int8_static && !ranges) status = std::unexpected(ranges.error());
    const float tolerance = is_int8(engine.kind) ? int8_tolerance_of(release.task, *answers)
                                                 : float_tolerance_of(release.task, *answers);
    const KnownAnswers known{release.known_inputs, *answers, tolerance};
    const EngineSetup setup{engine, ranges.value_or(ActivationRanges{})};
    if (status) status = measure(spec, *served, setup, known, plan, memory, now, profile);
    if (!status) profile.refusal = status.error().detail;
    all.push_back(std::move(profile));
  }
  mark_taken(std::span(all).subspan(first), engines, variant.in_int8);
  return {};
}

}  // namespace

Result<std::vector<EngineProfile>> profile_engines(const Release& release, std::span<const float> weights,
                                                   std::span<const OfferedVariant> variants,
                                                   const ProfilePlan& plan, const Stopwatch& now) {
  if (release.known_inputs.size() < release.architecture.input_size())
    return fail(Errc::invalid, "the release has no known input");
  std::optional<PeakMemory> own;
  const PeakMemory& memory = plan.memory != nullptr ? *plan.memory : own.emplace();
  std::vector<EngineProfile> all;
  for (const OfferedVariant& variant : variants) {
    if (Status status = profile_variant(release, weights, variant, plan, memory, now, all); !status)
      return fail_at("variant " + variant.name, status.error());
  }
  return all;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    // x86 says "model name", most ARM kernels "Model" or "Hardware".
    for (const char* key : {"model name", "Model", "Hardware"}) {
      const std::size_t colon = line.find(": ");
      if (line.starts_with(key) && colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return "an unnamed processor";
}

}  // namespace rivulet
