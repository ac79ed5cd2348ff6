#include "models/runtime/inference.h"

#include <dlfcn.h>

#include <cmath>
#include <limits>
#include <thread>

#include "models/runtime/architectures.h"
#include "models/runtime/evaluation.h"
#include "models/runtime/model.h"
#include "models/runtime/runtime.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"

using namespace rivulet;

namespace {

InferenceSpec spec_of(const Architecture& architecture, Preprocessing preprocessing = {}) {
  return {
      architecture, layout_of(architecture).value(), TaskKind::classification, std::move(preprocessing), {}};
}

}  // namespace

TEST_CASE("a raw sample is preprocessed, classified and given its probabilities", "[runtime][inference]") {
  // Logits of x = (raw - 10) / 2: (0, x1, x2).
  const InferenceSpec spec = spec_of({"mlp", {}, {2}, 3}, {{10}, {2}});
  const std::vector<float> weights = {0, 0, 1, 0, 0, 1, 0, 0, 0};
  const InferenceModel model = InferenceModel::load(spec, weights).value();
  const float two = 2 * std::log(2.0F);
  const float five = 2 * std::log(5.0F);
  const Prediction prediction = model.infer(std::vector<float>{10 + two, 10 + five}).value();
  CHECK(prediction.class_index == 2);
  REQUIRE(prediction.probabilities.size() == 3);
  CHECK(prediction.probabilities[0] == Approx(0.125).epsilon(1e-5));
  CHECK(prediction.probabilities[1] == Approx(0.25).epsilon(1e-5));
  CHECK(prediction.probabilities[2] == Approx(0.625).epsilon(1e-5));
  CHECK(prediction.value.empty());
}

TEST_CASE("a regression answers its values and an anomaly model its error", "[runtime][inference]") {
  InferenceSpec spec = spec_of({"mlp", {}, {2}, 2});
  const std::vector<float> weights = {1, 0, 0, 1, 0.5, -1};  // x + (0.5, -1)
  spec.task = TaskKind::regression;
  const InferenceModel regression = InferenceModel::load(spec, weights).value();
  CHECK(regression.infer(std::vector<float>{3, 4}).value() == Prediction{-1, {}, {3.5, 3}});
  spec.task = TaskKind::anomaly;
  const InferenceModel anomaly = InferenceModel::load(spec, weights).value();
  CHECK(anomaly.infer(std::vector<float>{3, 4}).value() == Prediction{-1, {}, {(0.25F + 1) / 2}});
}

TEST_CASE("the served network answers as the trained one", "[runtime][inference]") {
  const auto architecture = GENERATE(values<Architecture>({
      {"mlp", {64}, {64}, 10},
      {"mcmahan_cnn", {}, {1, 28, 28}, 10},
  }));
  use_one_thread();
  Model trained = Model::build(architecture).value();
  const std::vector<float> weights = trained.initial_weights(1);
  REQUIRE(trained.set_weights(weights));
  const InferenceModel served = InferenceModel::load(spec_of(architecture), weights).value();
  constexpr std::size_t samples = 7;
  const std::vector<float> inputs = reference::uniform(samples * served.input_size(), -1, 1, 2);
  std::vector<float> expected = trained.forward(inputs, samples).value();
  const std::vector<Prediction> batch = served.infer_batch(inputs).value();
  REQUIRE(batch.size() == samples);
  for (std::size_t i = 0; i < samples; ++i) {
    const auto row = std::span(expected).subspan(i * 10, 10);
    softmax(row);
    const Prediction single =
        served.infer(std::span(inputs).subspan(i * served.input_size(), served.input_size())).value();
    for (std::size_t j = 0; j < 10; ++j) {
      CHECK(batch[i].probabilities[j] == Approx(row[j]).margin(1e-5));
      CHECK(single.probabilities[j] == Approx(row[j]).margin(1e-5));
    }
  }
}

TEST_CASE("many threads share one served model and each gets its own answers", "[runtime][inference]") {
  const auto architecture = GENERATE(values<Architecture>({
      {"mlp", {32}, {64}, 10},
      {"mcmahan_cnn", {}, {1, 28, 28}, 10},
  }));
  use_one_thread();
  const InferenceSpec spec = spec_of(architecture);
  const InferenceModel model = InferenceModel::load(spec, initial_weights(spec.layout, 1)).value();
  constexpr std::size_t samples = 8;
  const std::size_t size = model.input_size();
  const std::vector<float> inputs = reference::uniform(samples * size, -1, 1, 3);
  std::vector<Prediction> expected;
  for (std::size_t i = 0; i < samples; ++i)
    expected.push_back(model.infer(std::span(inputs).subspan(i * size, size)).value());

  std::vector<std::size_t> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < wrong.size(); ++t)
      threads.emplace_back([&, t] {
        for (std::size_t call = 0; call < 100; ++call) {
          const std::size_t i = (call + 3 * t) % samples;
          const auto answer = model.infer(std::span(inputs).subspan(i * size, size));
          if (!answer || *answer != expected[i]) ++wrong[t];
        }
      });
  }
  CHECK(wrong == std::vector<std::size_t>(4, 0));
}

TEST_CASE("a thread that answers keeps to one thread, as the process was told", "[runtime][inference]") {
  use_one_thread();
  const Architecture architecture{"mcmahan_cnn", {}, {1, 28, 28}, 10};
  const InferenceSpec spec = spec_of(architecture);
  const InferenceModel model =
      InferenceModel::load(spec, Model::build(architecture).value().initial_weights(1)).value();
  // OpenMP keeps the number for each thread, and a new one begins with that of all cores.
  using Count = int (*)();
  const auto count = reinterpret_cast<Count>(::dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
  if (count == nullptr) {
    WARN("skipped: this LibTorch computes without OpenMP");
    return;
  }
  int after = 0;
  std::thread([&] {
    model.infer(std::vector<float>(28 * 28, 0.5F)).value();
    after = count();
  }).join();
  CHECK(after == 1);
}

TEST_CASE("samples that don't fit are refused with what was expected and given", "[runtime][inference]") {
  const InferenceSpec spec = spec_of({"mlp", {}, {3}, 2});
  const InferenceModel model = InferenceModel::load(spec, initial_weights(spec.layout, 1)).value();
  CHECK(model.infer(std::vector<float>{1, 2}).error() ==
        Error{Errc::invalid, "the model expects 3 numbers a sample, but got 2"});
  CHECK(model.infer(std::vector<float>{1, std::numeric_limits<float>::infinity(), 3}).error() ==
        Error{Errc::invalid, "number 1 of the sample is inf; it must be finite"});
  CHECK(model.infer_batch(std::vector<float>{1, 2, 3, 4}).error().code == Errc::invalid);
  CHECK(model.infer_batch(std::vector<float>{1, 2, 3, 4, 5, std::nanf("")}).error() ==
        Error{Errc::invalid, "sample 1: number 2 of the sample is nan; it must be finite"});
  CHECK(model.infer_batch({}).value().empty());
  CHECK(model.infer_batch(std::vector<float>(3 * 300, 1.0F)).value().size() == 300);
}

TEST_CASE("an answer that overflows is corrupt, at load or at the sample that shows it",
          "[runtime][inference]") {
  const InferenceSpec spec = spec_of({"mlp", {}, {1}, 2});
  const InferenceModel model = InferenceModel::load(spec, std::vector<float>{3e38F, 0, 0, 0}).value();
  CHECK(model.infer(std::vector<float>{0.5F}));
  CHECK(model.infer(std::vector<float>{10}).error().code == Errc::corrupt);
  CHECK(InferenceModel::load(spec, std::vector<float>{std::nanf(""), 0, 0, 0}).error() ==
        Error{Errc::corrupt, "a weight of the model is not finite"});
  const InferenceSpec shifted = spec_of({"mlp", {}, {1}, 2}, {{-100}, {1}});  // Zero becomes 100.
  CHECK(InferenceModel::load(shifted, std::vector<float>{3e38F, 0, 0, 0}).error().code == Errc::corrupt);
}

TEST_CASE("parts that contradict each other make no served model", "[runtime][inference]") {
  InferenceSpec spec = spec_of({"mlp", {}, {3}, 2});
  std::vector<float> weights = initial_weights(spec.layout, 1);
  SECTION("layout") { spec.layout.tensors[0].name = "dense.weight"; }
  SECTION("weights") { weights.pop_back(); }
  SECTION("classes") { spec.classes = {"one", "two", "three"}; }
  SECTION("preprocessing") { spec.preprocessing.mean = {1, 2}; }
  SECTION("an anomaly model that cannot rebuild its input") { spec.task = TaskKind::anomaly; }
  const auto result = InferenceModel::load(spec, weights);
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Errc::invalid);
}
