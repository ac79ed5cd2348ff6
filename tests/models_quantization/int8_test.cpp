#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <thread>

#include "models/dataset/dataset.h"
#include "models/runtime/calibration.h"
#include "models/runtime/engine_choice.h"
#include "models/runtime/local_statistics.h"
#include "models/runtime/runtime.h"
#include "models/runtime/training.h"
#include "tests/catch.h"
#include "tests/models_quantization/networks.h"

using namespace rivulet;
using namespace rivulet::testing;

namespace {

std::vector<float> answers(const InferenceModel& model, std::span<const float> inputs) {
  return answers_of(model.spec().task, model.infer_batch(inputs).value());
}

struct Subject {
  InferenceSpec spec;
  std::vector<float> weights;
  std::vector<float> inputs;  // 40 samples: more than one batch, and the last one is no full one.
};

Subject make_subject(const Architecture& architecture) {
  use_one_thread();
  Subject subject{values_of(architecture), {}, {}};
  subject.weights = initial_weights(subject.spec.layout, 3);
  subject.inputs = uniform(40 * architecture.input_size(), -1, 1, 5);
  // With statistics of the inputs, where a network has such: without, deep ones answer nearly nothing.
  Model model = Model::build(architecture).value();
  subject.weights = with_local_statistics(model, subject.weights, subject.inputs).value();
  return subject;
}

InferenceModel load(const Subject& subject, const EngineSetup& setup) {
  return InferenceModel::load(subject.spec, subject.weights, setup).value();
}

EngineSetup static_setup(const Subject& subject) {
  return int8_setup(EngineKind::int8_static,
                    calibrate(subject.spec, subject.weights, subject.inputs).value());
}

/// Resident memory of this process in bytes, without what the heap merely holds back.
std::int64_t resident_bytes() {
  ::malloc_trim(0);
  std::ifstream file("/proc/self/statm");
  std::int64_t total = 0;
  std::int64_t resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace

TEST_CASE("frozen and optimized fp32 answers as the script does", "[int8][engine]") {
  const Subject subject = make_subject(GENERATE(values<Architecture>({small_mlp, mcmahan_cnn})));
  const std::vector<float> script = answers(load(subject, {{EngineKind::fp32_script}, {}}), subject.inputs);
  const std::vector<float> optimized =
      answers(load(subject, {{EngineKind::fp32_optimized}, {}}), subject.inputs);
  REQUIRE(script.size() == optimized.size());
  const float largest = std::ranges::max(script, {}, [](float x) { return std::fabs(x); });
  for (std::size_t i = 0; i < script.size(); ++i)
    CHECK(std::fabs(script[i] - optimized[i]) <= 1e-5F * std::fabs(largest));
}

TEST_CASE("int8 answers are within 30 dB of fp32's, one by one and in batches", "[int8]") {
  const Subject subject = make_subject(GENERATE(values<Architecture>({small_mlp, mcmahan_cnn})));
  const std::vector<float> expected = answers(load(subject, {}), subject.inputs);
  const std::size_t size = subject.spec.architecture.input_size();
  for (const EngineSetup& setup : {static_setup(subject), int8_setup(EngineKind::int8_dynamic)}) {
    const InferenceModel model = load(subject, setup);
    CAPTURE(name(model.engine()));
    CHECK(model.engine() == setup.engine);
    CHECK(signal_to_noise(expected, answers(model, subject.inputs)) > 30);
    std::vector<float> single;
    for (std::size_t begin = 0; begin < subject.inputs.size(); begin += size) {
      const auto prediction = model.infer(std::span(subject.inputs).subspan(begin, size)).value();
      single.insert(single.end(), prediction.value.begin(), prediction.value.end());
    }
    CHECK(signal_to_noise(expected, single) > 30);
  }
}

TEST_CASE("every built-in network runs in int8", "[int8][architectures]") {
  struct Row {
    std::string kind;
    std::vector<std::int64_t> shape;
    std::int64_t outputs;
    double noise_min;  ///< dB; deep networks with normalizations in int8 lose more.
  };
  const auto row = GENERATE(values<Row>({
      {"mlp", {30}, 4, 30},
      {"autoencoder", {64}, 64, 30},
      {"cnn", {1, 8, 8}, 10, 30},
      {"cnn1d", {6, 64}, 6, 30},
      {"gru", {6, 32}, 6, 30},
      {"resnet18", {3, 16, 16}, 10, 20},
      {"mobilenet_v2", {3, 12, 16}, 10, 5},  // Fifty untrained layers: trained, it loses no accuracy.
  }));
  CAPTURE(row.kind);
  Architecture architecture = default_architecture(row.kind);
  architecture.input_shape = row.shape;
  architecture.outputs = row.outputs;
  if (row.kind == "resnet18") architecture.width = 0.125;
  if (row.kind == "mobilenet_v2") {
    architecture.width = 0.1;
    architecture.resolution = 64;
  }
  const Subject subject = make_subject(architecture);
  const std::vector<float> expected = answers(load(subject, {}), subject.inputs);
  const EngineSetup fixed = static_setup(subject);
  CHECK(fixed.ranges.left_in_float.empty());
  CHECK(signal_to_noise(expected, answers(load(subject, fixed), subject.inputs)) > row.noise_min);
  const EngineSetup dynamic = int8_setup(EngineKind::int8_dynamic);
  CHECK(signal_to_noise(expected, answers(load(subject, dynamic), subject.inputs)) > 30);
}

TEST_CASE("7-bit activations cost half of their precision and no more", "[int8]") {
  const Subject subject = make_subject(mcmahan_cnn);
  const std::vector<float> expected = answers(load(subject, {}), subject.inputs);
  EngineSetup setup = static_setup(subject);
  setup.engine.bits = ActivationBits::seven;
  CHECK(signal_to_noise(expected, answers(load(subject, setup), subject.inputs)) > 27);
}

TEST_CASE("published ranges make the same module again, bit for bit", "[int8][ranges]") {
  const Subject subject = make_subject(GENERATE(values<Architecture>({small_mlp, mcmahan_cnn})));
  const ActivationRanges ranges = calibrate(subject.spec, subject.weights, subject.inputs).value();
  CHECK(ranges.left_in_float.empty());
  // The inputs run from -1 to 1, and the network's input is quantized first.
  REQUIRE(!ranges.values.empty());
  CHECK(ranges.values[0].low == std::ranges::min(subject.inputs));
  CHECK(ranges.values[0].high == std::ranges::max(subject.inputs));
  CHECK(calibrate(subject.spec, subject.weights, subject.inputs).value() == ranges);

  const EngineSetup setup = int8_setup(EngineKind::int8_static, ranges);
  const std::vector<float> first = answers(load(subject, setup), subject.inputs);
  CHECK(answers(load(subject, setup), subject.inputs) == first);
  // The ranges are what decides: others give other answers.
  EngineSetup wider = setup;
  for (ActivationRange& range : wider.ranges.values) range = {1.5F * range.low, 1.5F * range.high};
  CHECK(answers(load(subject, wider), subject.inputs) != first);
}

TEST_CASE("threads share a model in int8 and each gets its own answers", "[int8][threads]") {
  const Subject subject = make_subject(mcmahan_cnn);
  const auto kind = GENERATE(EngineKind::int8_static, EngineKind::int8_dynamic);
  const InferenceModel model =
      load(subject,
           kind == EngineKind::int8_static ? static_setup(subject) : int8_setup(EngineKind::int8_dynamic));
  const std::size_t size = model.input_size();
  constexpr std::size_t samples = 6;
  std::vector<Prediction> expected;
  for (std::size_t i = 0; i < samples; ++i)
    expected.push_back(model.infer(std::span(subject.inputs).subspan(i * size, size)).value());
  const auto batch_inputs = std::span(subject.inputs).first(samples * size);
  const std::vector<Prediction> expected_batch = model.infer_batch(batch_inputs).value();

  std::vector<std::size_t> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < wrong.size(); ++t)
      threads.emplace_back([&, t] {
        for (std::size_t call = 0; call < 200; ++call) {
          const std::size_t i = (call + 3 * t) % samples;
          const auto answer = model.infer(std::span(subject.inputs).subspan(i * size, size));
          if (!answer || *answer != expected[i]) ++wrong[t];
          if (call % 10 != 0) continue;
          const auto batch = model.infer_batch(batch_inputs);
          if (!batch || *batch != expected_batch) ++wrong[t];
        }
      });
  }
  CHECK(wrong == std::vector<std::size_t>(4, 0));
}

TEST_CASE("ranges and engines that don't fit the model are refused", "[int8][ranges]") {
  const Subject subject = make_subject(small_mlp);
  const EngineSetup good = static_setup(subject);
  const auto refusal = [&](const EngineSetup& setup) {
    return InferenceModel::load(subject.spec, subject.weights, setup).error();
  };
  const std::size_t count = good.ranges.values.size();
  EngineSetup setup = good;
  setup.ranges.values.pop_back();
  CHECK(refusal(setup) ==
        Error{Errc::invalid, "the model quantizes " + std::to_string(count) + " activations, but " +
                                 std::to_string(count - 1) + " ranges were given"});
  setup = good;
  setup.ranges.values.push_back({-1, 1});
  CHECK(refusal(setup).code == Errc::invalid);
  setup = good;
  setup.ranges.values[1].high = std::numeric_limits<float>::quiet_NaN();
  CHECK(refusal(setup).detail.starts_with("activation range 1 is ["));
  setup = good;
  std::swap(setup.ranges.values[0].low, setup.ranges.values[0].high);
  CHECK(refusal(setup).detail.ends_with("it must rise and hold 0"));
  setup = good;
  setup.ranges.left_in_float = {"fc9"};
  CHECK(refusal(setup) == Error{Errc::invalid, "the model has no module 'fc9' that could be left in float"});
  setup = good;
  setup.engine.backend = Int8Backend::none;
  CHECK(refusal(setup).detail == "the engine int8-static-none needs an int8 backend");
  CHECK(refusal({{EngineKind::fp32_script, Int8Backend::onednn}, {}}).code == Errc::invalid);

  CHECK(calibrate(subject.spec, subject.weights, {}).error().code == Errc::invalid);
  CHECK(calibrate(subject.spec, subject.weights, std::vector<float>(21)).error().detail ==
        "calibration needs whole samples of 20 numbers, but got 21 numbers");
  std::vector<float> not_finite(20);
  not_finite[7] = std::numeric_limits<float>::infinity();
  CHECK(calibrate(subject.spec, subject.weights, not_finite).error().code == Errc::invalid);
  const std::vector<float> huge(subject.weights.size(), 3e38F);
  CHECK(calibrate(subject.spec, huge, subject.inputs).error().code == Errc::corrupt);
}

TEST_CASE("a module left in float by name has no range and stays in float", "[int8][ranges]") {
  const Subject subject = make_subject(small_mlp);
  EngineSetup setup = static_setup(subject);
  const std::vector<float> all = answers(load(subject, setup), subject.inputs);
  const std::vector<float> exact = answers(load(subject, {}), subject.inputs);
  const std::size_t count = setup.ranges.values.size();
  // The last layer in float: its output is not quantized any more.
  setup.ranges.left_in_float = {"fc3"};
  setup.ranges.values.pop_back();
  const auto model = InferenceModel::load(subject.spec, subject.weights, setup);
  REQUIRE(model);
  CHECK(count == 4);
  CHECK(signal_to_noise(exact, answers(*model, subject.inputs)) > signal_to_noise(exact, all));
}

TEST_CASE("a loaded model takes its weights, its activations and little more", "[int8][memory]") {
  struct Row {
    Architecture architecture;
    std::int64_t activations;  ///< Numbers of the two largest layers next to each other, for one sample.
  };
  const auto row = GENERATE(values<Row>({
      {mcmahan_cnn, 32 * 28 * 28 + 32 * 14 * 14},
      {{.kind = "resnet18", .input_shape = {3, 32, 32}, .outputs = 10, .width = 1, .groups = 8},
       2 * 64 * 32 * 32},
      {{.kind = "mobilenet_v2", .input_shape = {3, 64, 64}, .outputs = 10, .width = 0.5}, 2 * 48 * 32 * 32},
  }));
  const Subject subject = make_subject(row.architecture);
  const EngineSetup static_int8 = static_setup(subject);
  const std::vector<EngineSetup> setups = {{}, static_int8, int8_setup(EngineKind::int8_dynamic)};
  for (const EngineSetup& setup : setups) std::ignore = load(subject, setup);  // What LibTorch itself takes.
  for (const EngineSetup& setup : setups) {
    CAPTURE(row.architecture.kind, name(setup.engine));
    // Of dynamic int8 the convolutions stay in float.
    const std::int64_t number = setup.engine.kind == EngineKind::int8_static ? 1 : 4;
    const auto weight_bytes = static_cast<std::int64_t>(subject.weights.size()) * number;
    const std::int64_t before = resident_bytes();
    const InferenceModel model = load(subject, setup);
    std::ignore = model.infer_batch(subject.inputs).value();
    const std::int64_t loaded = resident_bytes() - before;
    WARN(row.architecture.kind << ", " << name(setup.engine) << ": " << loaded / 1024
                               << " KiB resident for weights of " << weight_bytes / 1024 << " KiB");
    CHECK(loaded <= weight_bytes + 32 * 4 * row.activations + 10 * 1024 * 1024);
  }
}

TEST_CASE("a swapped model gives its memory back", "[int8][memory]") {
  const Subject subject = make_subject(mcmahan_cnn);
  const EngineSetup static_int8 = static_setup(subject);
  for (const EngineSetup& setup : {static_int8, int8_setup(EngineKind::int8_dynamic), EngineSetup{}}) {
    CAPTURE(name(setup.engine));
    for (int i = 0; i < 3; ++i) std::ignore = load(subject, setup);
    const std::int64_t before = resident_bytes();
    for (int i = 0; i < 8; ++i) std::ignore = load(subject, setup);
    // One lost copy of the weights, even in int8, would be 1.6 MB each time.
    CHECK(resident_bytes() - before < 8 * 1024 * 1024);
  }
}

TEST_CASE("int8 costs at most half a point of accuracy on real images", "[int8][accuracy]") {
  const char* set = std::getenv("RIVULET_DATA");
  const std::filesystem::path folder = set != nullptr ? set : "../shared/data";
  const std::string name = GENERATE("mnist", "fashion_mnist");
  if (!std::filesystem::is_directory(folder / name)) {
    WARN("skipped: there is no " + name + " in " + folder.string() + "; RIVULET_DATA names its folder");
    return;
  }
  use_one_thread();
  SampleOptions options;
  options.scale_bytes = true;
  const LabelRule rule{TaskKind::classification, {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}};
  const auto read = [&](const char* file, std::size_t count) {
    const auto all = load_dataset(folder / name / file, SampleFormat::idx, options, rule);
    std::vector<std::size_t> indices(count);
    std::iota(indices.begin(), indices.end(), std::size_t{0});
    return select(all.value(), indices);
  };
  const Dataset training = read("train-images-idx3-ubyte.gz", 4000);
  const Dataset test = read("t10k-images-idx3-ubyte.gz", 4000);

  Model model = Model::build(mcmahan_cnn).value();
  const TrainingParameters parameters{.epochs = 1, .batch_size = 16, .learning_rate = 0.05, .momentum = 0.5};
  std::ignore =
      train(model, model.initial_weights(1), {training.inputs, training.labels}, parameters).value();
  const std::vector<float> weights = model.weights();
  const InferenceSpec spec = classes_of(mcmahan_cnn);
  const auto calibration = std::span<const float>(training.inputs).first(std::size_t{1000} * 784);
  const auto accuracy = [&](const EngineSetup& setup) {
    const auto answered = InferenceModel::load(spec, weights, setup).value().infer_batch(test.inputs).value();
    std::size_t right = 0;
    for (std::size_t i = 0; i < answered.size(); ++i) right += answered[i].class_index == test.labels[i];
    return static_cast<double>(right) / static_cast<double>(answered.size());
  };
  const double fp32 = accuracy({});
  const double fixed =
      accuracy(int8_setup(EngineKind::int8_static, calibrate(spec, weights, calibration).value()));
  const double dynamic = accuracy(int8_setup(EngineKind::int8_dynamic));
  WARN(name << ": fp32 " << fp32 << ", static int8 " << fixed << ", dynamic int8 " << dynamic);
  CHECK(fp32 > (name == "mnist" ? 0.9 : 0.7));
  CHECK(fixed >= fp32 - 0.005);
  CHECK(dynamic >= fp32 - 0.005);
}
