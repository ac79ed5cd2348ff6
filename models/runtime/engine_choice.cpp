#include "models/runtime/engine_choice.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

namespace rivulet {
namespace {

/// @return refused, with the place, when an answer differs by more than the tolerance.
Status compare(std::span<const float> answers, const KnownAnswers& known, const char* how) {
  if (answers.size() != known.outputs.size())
    return fail(Errc::invalid,
                fmt::format("the model answers {} numbers to the known inputs, but {} are known",
                            answers.size(), known.outputs.size()));
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const float difference = std::fabs(answers[i] - known.outputs[i]);
    if (!(difference <= known.tolerance))
      return fail(Errc::refused, fmt::format("answer {} {} is {} and not {}: {} off, and {} is allowed", i,
                                             how, answers[i], known.outputs[i], difference, known.tolerance));
  }
  return {};
}

Status check(const EngineQuestion& question) {
  const std::size_t size = question.spec.architecture.input_size();
  for (const KnownAnswers& known : {question.fp32, question.int8}) {
    if (known.inputs.empty() || known.inputs.size() % size != 0)
      return fail(Errc::invalid, fmt::format("{} known inputs are no whole number of samples of {}, or none",
                                             known.inputs.size(), size));
    if (!(known.tolerance >= 0) || !std::isfinite(known.tolerance))
      return fail(Errc::invalid,
                  fmt::format("the tolerance is {}; it must be a finite number from 0", known.tolerance));
  }
  if (question.latency.calls_min == 0 || question.latency.calls_max < question.latency.calls_min)
    return fail(Errc::invalid, "a latency needs at least one call");
  return {};
}

Result<double> judge(const EngineQuestion& question, const EngineSetup& setup, const Stopwatch& now) {
  if (setup.engine.kind == EngineKind::int8_static && question.ranges == nullptr)
    return fail(Errc::unsupported, "the version brings no activation ranges");
  const Result<InferenceModel> model = InferenceModel::load(question.spec, question.weights, setup);
  if (!model) return std::unexpected(model.error());
  const KnownAnswers& known = is_int8(setup.engine.kind) ? question.int8 : question.fp32;
  if (Status status = check_answers(*model, known); !status) return std::unexpected(status.error());
  return measure_latency(*model, known.inputs.first(model->input_size()), question.latency, now);
}

EngineSetup setup_of(const EngineQuestion& question, const Engine& engine) {
  EngineSetup setup{engine, {}};
  if (engine.kind == EngineKind::int8_static && question.ranges != nullptr) setup.ranges = *question.ranges;
  return setup;
}

}  // namespace

Status check_answers(const InferenceModel& model, const KnownAnswers& known) {
  const TaskKind task = model.spec().task;
  const std::size_t size = model.input_size();
  std::vector<Prediction> single;
  for (std::size_t begin = 0; begin < known.inputs.size(); begin += size) {
    Result<Prediction> prediction = model.infer(known.inputs.subspan(begin, size));
    if (!prediction) return std::unexpected(prediction.error());
    single.push_back(std::move(*prediction));
  }
  if (Status status = compare(answers_of(task, single), known, "of one sample"); !status) return status;
  const Result<std::vector<Prediction>> batch = model.infer_batch(known.inputs);
  if (!batch) return std::unexpected(batch.error());
  return compare(answers_of(task, *batch), known, "of a batch");
}

std::vector<float> answers_of(TaskKind task, std::span<const Prediction> predictions) {
  std::vector<float> answers;
  for (const Prediction& prediction : predictions) {
    const auto& values = task == TaskKind::classification ? prediction.probabilities : prediction.value;
    answers.insert(answers.end(), values.begin(), values.end());
  }
  return answers;
}

Result<double> measure_latency(const InferenceModel& model, std::span<const float> sample,
                               const LatencyPlan& plan, const Stopwatch& now) {
  for (std::size_t i = 0; i < plan.warm_up; ++i)
    if (const auto answer = model.infer(sample); !answer) return std::unexpected(answer.error());
  std::vector<std::chrono::nanoseconds> times;
  const auto begin = now();
  auto before = begin;
  while (times.size() < plan.calls_max && (times.size() < plan.calls_min || before - begin < plan.time_max)) {
    if (const auto answer = model.infer(sample); !answer) return std::unexpected(answer.error());
    const auto after = now();
    times.push_back(after - before);
    before = after;
  }
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::ranges::nth_element(times, middle);
  return std::chrono::duration<double, std::micro>(*middle).count();
}

Result<EngineChoice> choose_engine(const EngineQuestion& question, const Stopwatch& now) {
  if (Status status = check(question); !status) return std::unexpected(status.error());
  EngineChoice choice;
  for (const Engine& engine : question.candidates) {
    const Result<double> microseconds = judge(question, setup_of(question, engine), now);
    choice.trials.push_back(
        {engine, microseconds.value_or(0), microseconds ? std::string() : microseconds.error().detail});
  }
  const std::optional<std::size_t> taken = choose(choice.trials);
  if (!taken) return fail(Errc::unsupported, "no engine is right: " + describe(choice));
  choice.setup = setup_of(question, question.candidates[*taken]);
  return choice;
}

std::string describe(const EngineChoice& choice) {
  const std::optional<std::size_t> taken = choose(choice.trials);
  std::string line;
  for (std::size_t i = 0; i < choice.trials.size(); ++i) {
    const EngineTrial& trial = choice.trials[i];
    if (i > 0) line += ", ";
    line += trial.refusal.empty() ? fmt::format("{} {:.0f} us", name(trial.engine), trial.microseconds)
                                  : fmt::format("{} refused: {}", name(trial.engine), trial.refusal);
    if (taken == i) line += " (taken)";
  }
  return line;
}

}  // namespace rivulet
