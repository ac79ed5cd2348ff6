#include "models/runtime/engine_choice.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "protocol/assert.h"

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

double microseconds_of(std::chrono::nanoseconds time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

/// Times calls of a model, and tells when it cannot be the fastest any more.
class Timing {
 public:
  Timing(const LatencyPlan& plan, const Stopwatch& now, std::optional<double> best)
      : plan_(plan), now_(now), best_(best), last_(now()) {}

  Result<std::chrono::nanoseconds> call(const InferenceModel& model, std::span<const float> sample) {
    if (const auto answer = model.infer(sample); !answer) return std::unexpected(answer.error());
    const auto before = std::exchange(last_, now_());
    ++calls_;
    least_ = std::min(least_, last_ - before);
    return last_ - before;
  }
  [[nodiscard]] bool is_hopeless() const {
    return best_ && calls_ >= calls_to_judge && least() > plan_.slower_max * *best_;
  }
  /// Microseconds; a first call may be slow by chance, the fastest of several is not.
  [[nodiscard]] double least() const { return microseconds_of(least_); }
  [[nodiscard]] std::chrono::nanoseconds last() const { return last_; }

 private:
  static constexpr std::size_t calls_to_judge = 3;

  const LatencyPlan& plan_;
  const Stopwatch& now_;
  std::optional<double> best_;
  std::chrono::nanoseconds last_;
  std::chrono::nanoseconds least_ = std::chrono::nanoseconds::max();
  std::size_t calls_ = 0;
};

struct Candidate {
  InferenceModel model;
  double microseconds = 0;
};

/// @param best microseconds of the fastest right engine so far.
Result<Candidate> judge(const EngineQuestion& question, const EngineSetup& setup, std::optional<double> best,
                        const Stopwatch& now) {
  if (setup.engine.kind == EngineKind::int8_static && question.ranges == nullptr)
    return fail(Errc::unsupported, "the version brings no activation ranges");
  Result<InferenceModel> model = InferenceModel::load(question.spec, question.weights, setup);
  if (!model) return std::unexpected(model.error());
  const KnownAnswers& known = is_int8(setup.engine.kind) ? question.int8 : question.fp32;
  if (Status status = check_answers(*model, known); !status) return std::unexpected(status.error());
  const Result<double> microseconds =
      measure_latency(*model, known.inputs.first(model->input_size()), question.latency, now, best);
  if (!microseconds) return std::unexpected(microseconds.error());
  return Candidate{std::move(*model), *microseconds};
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

Result<std::vector<float>> reference_answers(const InferenceSpec& spec, std::span<const float> weights,
                                             std::span<const float> raw_samples) {
  const auto model = InferenceModel::load(spec, weights, {Engine{.kind = EngineKind::fp32_script}, {}});
  if (!model) return std::unexpected(model.error());
  const auto predictions = model->infer_batch(raw_samples);
  if (!predictions) return std::unexpected(predictions.error());
  return answers_of(spec.task, *predictions);
}

Stopwatch steady_stopwatch() {
  return [] { return std::chrono::steady_clock::now().time_since_epoch(); };
}

Result<double> measure_latency(const InferenceModel& model, std::span<const float> sample,
                               const LatencyPlan& plan, const Stopwatch& now, std::optional<double> best) {
  Timing timing(plan, now, best);
  auto begin = timing.last();
  for (std::size_t i = 0; i < plan.warm_up && timing.last() - begin < plan.time_max; ++i) {
    if (const auto time = timing.call(model, sample); !time) return std::unexpected(time.error());
    if (timing.is_hopeless()) return timing.least();
  }
  std::vector<std::chrono::nanoseconds> times;
  begin = timing.last();
  while (times.size() < plan.calls_max &&
         (times.size() < plan.calls_min || timing.last() - begin < plan.time_max)) {
    const auto time = timing.call(model, sample);
    if (!time) return std::unexpected(time.error());
    if (timing.is_hopeless()) return timing.least();
    times.push_back(*time);
  }
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::ranges::nth_element(times, middle);
  return microseconds_of(*middle);
}

Result<EngineChoice> choose_engine(const EngineQuestion& question, const Stopwatch& now) {
  if (Status status = check(question); !status) return std::unexpected(status.error());
  EngineChoice choice;
  std::optional<double> best;
  for (const Engine& engine : question.candidates) {
    if (question.stop != nullptr && question.stop->load(std::memory_order_relaxed))
      return fail(Errc::cancelled, "the choice of an engine was stopped");
    Result<Candidate> candidate = judge(question, setup_of(question, engine), best, now);
    if (!candidate) {
      choice.trials.push_back({engine, 0, candidate.error().detail});
      continue;
    }
    best = std::min(best.value_or(candidate->microseconds), candidate->microseconds);
    choice.trials.push_back({engine, candidate->microseconds, {}});
    // Whichever is taken in the end is also the one to take of those up to itself.
    if (choose(choice.trials) == choice.trials.size() - 1) choice.model = std::move(candidate->model);
  }
  const std::optional<std::size_t> taken = choose(choice.trials);
  if (!taken) return fail(Errc::unsupported, "no engine is right: " + describe(choice));
  choice.setup = setup_of(question, question.candidates[*taken]);
  RIVULET_ASSERT(choice.model && choice.model->engine() == choice.setup.engine);
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
