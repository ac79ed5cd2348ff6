#include "models/runtime/profile/measure.h"

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <string>

#include "models/package/snapshot.h"
#include "models/runtime/calibration.h"
#include "models/runtime/inference.h"
#include "models/runtime/int8/backend.h"
#include "models/runtime/profile/meter.h"
#include "models/runtime/release_model.h"

namespace rivulet {
namespace {

/// A value in kB of /proc/self/status, in bytes; 0 if it is not there.
std::uint64_t status_bytes(std::string_view key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size())) * 1024;
  }
  return 0;
}

/// From here on VmHWM is the highest since now; where the system allows it.
void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

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
      mean[i].microseconds += metered.operators[i].microseconds / static_cast<double>(passes);
    }
  }
  return mean;
}

/// What the network itself answers in float, and how far an int8 engine may be from it.
struct Truth {
  std::vector<float> answers;
  float tolerance = 0;

  [[nodiscard]] KnownAnswers known(const Release& release, const Engine& engine) const {
    return {release.known_inputs, answers, is_int8(engine.kind) ? tolerance : tolerance / 50};
  }
};

Result<Truth> find_truth(const InferenceSpec& spec, std::span<const float> weights,
                         std::span<const float> inputs) {
  const auto model = InferenceModel::load(spec, weights, {Engine{.kind = EngineKind::fp32_script}, {}});
  if (!model) return std::unexpected(model.error());
  const auto predictions = model->infer_batch(inputs);
  if (!predictions) return std::unexpected(predictions.error());
  Truth truth{answers_of(spec.task, *predictions), 0.05F};
  if (spec.task == TaskKind::classification) return truth;
  float greatest = 0;
  for (const float value : truth.answers) greatest = std::max(greatest, std::abs(value));
  truth.tolerance *= greatest;
  return truth;
}

Status measure(const InferenceSpec& spec, std::span<const float> weights, const EngineSetup& setup,
               const KnownAnswers& known, const ProfilePlan& plan, const Stopwatch& now, EngineProfile& out) {
  const std::span<const float> sample = known.inputs.first(spec.architecture.input_size());
  ::malloc_trim(0);
  const std::uint64_t before = status_bytes("VmRSS:");
  reset_peak();
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
  const std::uint64_t peak = std::max(status_bytes("VmHWM:"), status_bytes("VmRSS:"));
  out.peak_bytes = peak - std::min(peak, before);
  out.operators = operators_of(*model, sample, plan.metered_calls, out.activation_bytes);
  return {};
}

/// The engine that a node would take: the fastest of all, as choose() has it.
void mark_taken(std::span<EngineProfile> profiles, std::span<const Engine> engines) {
  std::vector<EngineTrial> trials;
  for (std::size_t i = 0; i < profiles.size(); ++i) {
    trials.push_back({engines[i], profiles[i].p50_us, profiles[i].refusal});
  }
  if (const auto taken = choose(trials)) profiles[*taken].taken = true;
}

}  // namespace

Result<std::vector<EngineProfile>> profile_engines(const Release& release, std::span<const float> weights,
                                                   const ActivationRanges* ranges, const ProfilePlan& plan,
                                                   const Stopwatch& now) {
  const InferenceSpec spec = inference_spec(release);
  if (release.known_inputs.size() < release.architecture.input_size())
    return fail(Errc::invalid, "the release has no known input");
  std::vector<EngineProfile> all;
  for (const std::string& recipe : release.recipes) {
    const SnapshotForm form = variant_form(recipe, release.snapshot);
    const auto bytes = encode_snapshot(form, release.layout, weights);
    if (!bytes) return std::unexpected(bytes.error());
    const auto served = decode_snapshot(form, release.layout, *bytes);
    if (!served) return std::unexpected(served.error());
    std::vector<Engine> engines = candidate_engines();
    if (dense_form(form) != SnapshotForm::int8)
      std::erase_if(engines, [](const Engine& e) { return is_int8(e.kind); });
    std::optional<Result<ActivationRanges>> found;
    if (ranges == nullptr && dense_form(form) == SnapshotForm::int8)
      found = calibrate(spec, *served, release.known_inputs);
    const auto truth = find_truth(spec, *served, release.known_inputs);
    if (!truth) return std::unexpected(truth.error());
    const std::size_t first = all.size();
    for (const Engine& engine : engines) {
      EngineProfile profile{.variant = recipe, .engine = name(engine)};
      profile.file_bytes = bytes->size();
      profile.parameters = release.layout.size();
      EngineSetup setup{engine, {}};
      Status status;
      if (engine.kind == EngineKind::int8_static) {
        if (found && !*found) status = std::unexpected(found->error());
        if (status) setup.ranges = found ? **found : *ranges;
      }
      if (status) status = measure(spec, *served, setup, truth->known(release, engine), plan, now, profile);
      if (!status) profile.refusal = status.error().detail;
      all.push_back(std::move(profile));
    }
    mark_taken(std::span(all).subspan(first), engines);
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
