#include "models/runtime/engine_choice.h"

#include <algorithm>

#include "models/runtime/calibration.h"
#include "models/runtime/runtime.h"
#include "tests/catch.h"
#include "tests/models_quantization/networks.h"

using namespace rivulet;
using namespace rivulet::testing;
using namespace std::chrono_literals;

namespace {

/// A clock that goes on by the same step whenever it is read.
Stopwatch stepping(std::chrono::nanoseconds step) {
  return [step, now = 0ns]() mutable { return now += step; };
}

Stopwatch real() {
  return [] { return std::chrono::steady_clock::now().time_since_epoch(); };
}

struct Asked {
  InferenceSpec spec;
  std::vector<float> weights;
  std::vector<float> inputs;
  std::vector<float> outputs;
  ActivationRanges ranges;

  explicit Asked(const Architecture& architecture) : spec(classes_of(architecture)) {
    use_one_thread();
    weights = initial_weights(spec.layout, 3);
    inputs = uniform(4 * architecture.input_size(), -1, 1, 7);
    outputs = answers_of(spec.task, InferenceModel::load(spec, weights).value().infer_batch(inputs).value());
    ranges = calibrate(spec, weights, inputs).value();
  }
  [[nodiscard]] EngineQuestion question() const {
    return {.spec = spec,
            .weights = weights,
            .ranges = &ranges,
            .fp32 = {inputs, outputs, 1e-4F},
            .int8 = {inputs, outputs, 0.02F}};
  }
};

}  // namespace

TEST_CASE("latency is the median of as many calls as the plan allows", "[engine][latency]") {
  const InferenceSpec spec = values_of({.kind = "mlp", .hidden = {}, .input_shape = {2}, .outputs = 1});
  const InferenceModel model = InferenceModel::load(spec, std::vector<float>{1, 1, 0}).value();
  const std::vector<float> sample = {1, 2};
  std::size_t reads = 0;
  // Every third call takes 100 us, the others 10.
  const Stopwatch uneven = [&reads, now = 0ns]() mutable {
    ++reads;
    return now += reads % 3 == 0 ? 100us : 10us;
  };
  CHECK(measure_latency(model, sample, {2, 5, 30, 1s}, uneven).value() == Approx(10));
  CHECK(reads == 1 + 2 + 30);  // The time was not used up.
  reads = 0;
  const Stopwatch slow = [&reads, now = 0ns]() mutable {
    ++reads;
    return now += 400ms;
  };
  CHECK(measure_latency(model, sample, {2, 5, 30, 1s}, slow).value() == Approx(400'000));
  CHECK(reads == 1 + 2 + 5);  // At least five, though three of them took more than a second.
  reads = 0;
  CHECK(measure_latency(model, sample, {9, 2, 30, 1s}, slow).value() == Approx(400'000));
  CHECK(reads == 1 + 3 + 3);  // No other one begins after a second, neither of the warm-up nor of the calls.
  CHECK(measure_latency(model, std::vector<float>{1}, {}, slow).error().code == Errc::invalid);
}

TEST_CASE("an engine that is clearly slower than another is given up after three calls",
          "[engine][latency]") {
  const InferenceSpec spec = values_of({.kind = "mlp", .hidden = {}, .input_shape = {2}, .outputs = 1});
  const InferenceModel model = InferenceModel::load(spec, std::vector<float>{1, 1, 0}).value();
  const std::vector<float> sample = {1, 2};
  std::size_t reads = 0;
  std::vector<std::chrono::microseconds> times;  // Of the first calls; the others take as long as the last.
  const Stopwatch clock = [&, now = 0ns]() mutable {
    const std::size_t read = reads++;
    return read == 0 ? now : now += times[std::min(read, times.size()) - 1];
  };
  const auto measure = [&](const LatencyPlan& plan, double best,
                           std::vector<std::chrono::microseconds> taken) {
    reads = 0;
    times = std::move(taken);
    return measure_latency(model, sample, plan, clock, best).value();
  };
  // In the warm-up, and of few of these after it. The least of what it took is told.
  CHECK(measure({5, 3, 30, 1s}, 100, {900us, 310us, 400us}) == Approx(310));
  CHECK(reads == 1 + 3);
  CHECK(measure({1, 3, 30, 1s}, 100, {900us, 310us, 400us}) == Approx(310));
  CHECK(reads == 1 + 3);
  // One of the three was within three times the best: it goes on, and is given up by no later call.
  CHECK(measure({5, 3, 30, 1s}, 100, {900us, 299us, 900us, 400us}) == Approx(400));
  CHECK(reads == 1 + 5 + 30);
  CHECK(measure({5, 3, 30, 1s}, 100, {900us, 900us, 90us}) == Approx(90));
  CHECK(reads == 1 + 5 + 30);
}

TEST_CASE("slow engines are chosen among within seconds, not minutes", "[engine][latency]") {
  const Asked asked(small_mlp);
  EngineQuestion question = asked.question();
  std::size_t reads = 0;
  // The first candidate takes 0.1 s a call, three to warm up and three that count; each other 2 s.
  const Stopwatch clock = [&reads, now = 0ns]() mutable { return now += ++reads <= 1 + 3 + 3 ? 100ms : 2s; };
  const EngineChoice choice = choose_engine(question, clock).value();
  CHECK(choice.setup.engine == question.candidates.front());
  CHECK(choice.trials.front().microseconds == Approx(100'000));
  std::size_t right = 0;
  for (std::size_t i = 1; i < choice.trials.size(); ++i) {
    if (!choice.trials[i].refusal.empty()) continue;
    ++right;
    CHECK(choice.trials[i].microseconds == Approx(2e6));
  }
  REQUIRE(right > 0);
  CHECK(reads == 1 + 3 + 3 + right * (1 + 3));
}

TEST_CASE("every candidate is tried, and the one taken is right and the fastest", "[engine]") {
  const Asked asked(mcmahan_cnn);
  const EngineChoice choice = choose_engine(asked.question(), real()).value();
  WARN(describe(choice));
  REQUIRE(choice.trials.size() == candidate_engines().size());
  for (std::size_t i = 0; i < choice.trials.size(); ++i) {
    const EngineTrial& trial = choice.trials[i];
    CHECK(trial.engine == candidate_engines()[i]);
    CHECK((trial.microseconds > 0) == trial.refusal.empty());
  }
  CHECK(choice.trials[0].refusal.empty());
  CHECK(choice.trials[1].refusal.empty());
  const auto taken = choose(choice.trials);
  REQUIRE(taken);
  CHECK(choice.setup.engine == choice.trials[*taken].engine);
  CHECK(choice.trials[*taken].microseconds <= choice.trials[1].microseconds);
  REQUIRE(choice.model);
  CHECK(choice.model->engine() == choice.setup.engine);
  // The setup is complete: the model loads anew, and answers as the one that was tried.
  const InferenceModel model = InferenceModel::load(asked.spec, asked.weights, choice.setup).value();
  const auto answers = answers_of(asked.spec.task, model.infer_batch(asked.inputs).value());
  CHECK(answers == answers_of(asked.spec.task, choice.model->infer_batch(asked.inputs).value()));
  for (std::size_t i = 0; i < answers.size(); ++i)
    CHECK(answers[i] == Approx(asked.outputs[i]).margin(is_int8(choice.setup.engine.kind) ? 0.02 : 1e-4));
}

TEST_CASE("a candidate that is wrong is refused with the place, however fast", "[engine]") {
  const Asked asked(small_mlp);
  EngineQuestion question = asked.question();
  question.int8.tolerance = 1e-7F;
  const EngineChoice exact = choose_engine(question, stepping(10us)).value();
  for (const EngineTrial& trial : exact.trials) {
    CAPTURE(name(trial.engine));
    CHECK(trial.refusal.empty() == !is_int8(trial.engine.kind));
    if (is_int8(trial.engine.kind)) CHECK(trial.refusal.find("of one sample is") != std::string::npos);
  }
  CHECK(exact.setup.engine.kind == EngineKind::fp32_script);  // As fast as the other by this clock.

  question = asked.question();
  question.ranges = nullptr;
  const EngineChoice without_ranges = choose_engine(question, stepping(10us)).value();
  for (const EngineTrial& trial : without_ranges.trials)
    if (trial.engine.kind == EngineKind::int8_static)
      CHECK(trial.refusal == "the version brings no activation ranges");

  std::vector<float> other = asked.outputs;
  other[6] += 0.5F;
  question.fp32.outputs = other;
  question.int8.outputs = other;
  const Error none = choose_engine(question, stepping(10us)).error();
  CHECK(none.code == Errc::unsupported);
  CHECK(none.detail.starts_with("no engine is right: fp32-script refused: answer 6 of one sample is"));
}

TEST_CASE("a question that does not fit its answers is invalid", "[engine]") {
  const Asked asked(small_mlp);
  EngineQuestion question = asked.question();
  question.fp32.inputs = question.fp32.inputs.first(7);
  CHECK(choose_engine(question, stepping(1us)).error().code == Errc::invalid);
  question = asked.question();
  question.int8.tolerance = -1;
  CHECK(choose_engine(question, stepping(1us)).error().code == Errc::invalid);
  question = asked.question();
  question.latency.calls_min = 0;
  CHECK(choose_engine(question, stepping(1us)).error().code == Errc::invalid);
}

TEST_CASE("a choice is told in one line", "[engine]") {
  const EngineChoice choice{
      {{EngineKind::int8_static, Int8Backend::onednn}, {}},
      {{{EngineKind::fp32_optimized}, 480.4, ""},
       {{EngineKind::int8_static, Int8Backend::onednn}, 190, ""},
       {{EngineKind::int8_static, Int8Backend::qnnpack}, 0, "answer 3 of one sample is 1 and not 0"}}};
  CHECK(describe(choice) ==
        "fp32-optimized 480 us, int8-static-onednn 190 us (taken), int8-static-qnnpack refused: answer 3 of "
        "one "
        "sample is 1 and not 0");
}
