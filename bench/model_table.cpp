// What compression keeps: four networks, each trained here on real data, as fp32, in int8, with 60 % of its
// weights pruned in steps beside a dense twin that trains as long, and as a student with at most half of
// its parameters. Size of the file, parameters, accuracy on a test split that nothing is chosen by, and the
// median latency of one sample in one thread with the engine that a node would take; then each bar as a
// ratio to what it allows, at most 1. RIVULET_DATA names the folder with the data sets.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "bench/contenders.h"
#include "bench/verdict.h"
#include "models/dataset/dataset.h"
#include "models/package/pruning.h"
#include "models/package/snapshot.h"
#include "models/package/version.h"
#include "models/runtime/calibration.h"
#include "models/runtime/distillation.h"
#include "models/runtime/engine_choice.h"
#include "models/runtime/model.h"
#include "models/runtime/profile/measure.h"
#include "models/runtime/runtime.h"
#include "models/runtime/training.h"
#include "protocol/rng.h"

using namespace rivulet;

namespace {

constexpr double pruned_fraction = 0.6;
constexpr std::uint32_t pruning_steps = 6;
constexpr std::uint32_t fine_tuning_epochs = 8;  // Behind the last step.
constexpr std::uint32_t pruning_epochs = pruning_steps + fine_tuning_epochs;
constexpr std::size_t calibration_samples = 500;

struct Data {
  std::vector<float> inputs;  // preprocessed
  std::vector<std::int64_t> labels;
  std::size_t width = 0;

  [[nodiscard]] std::size_t size() const { return labels.size(); }
  void add(std::span<const float> sample, std::int64_t label) {
    width = sample.size();
    inputs.insert(inputs.end(), sample.begin(), sample.end());
    labels.push_back(label);
  }
};

struct Task {
  std::string name;
  Architecture teacher;
  Architecture student;
  Data train;
  Data test;
  std::uint32_t epochs = 3;
  double file_ratio = 0.27;  // of int8 to fp32, at most; 0.30 where the rest weighs more
  double to_script = 0;      // latency of int8 to the fp32 script, at most; 0: no bar
  double to_optimized = 0;   // to fp32 optimized for inference
};

std::filesystem::path data_folder() {
  const char* set = std::getenv("RIVULET_DATA");
  return set != nullptr ? set : "../shared/data";
}

/// Mean and deviation of each channel.
struct Scaling {
  std::vector<double> mean, deviation;
};

Scaling scaling_of(const Dataset& source, std::size_t channels) {
  Scaling scaling{std::vector<double>(channels), std::vector<double>(channels)};
  const std::size_t length = source.sample_size() / channels;
  std::vector<double> squares(channels);
  for (std::size_t i = 0; i < source.inputs.size(); ++i) {
    const std::size_t c = i / length % channels;
    scaling.mean[c] += source.inputs[i];
    squares[c] += static_cast<double>(source.inputs[i]) * source.inputs[i];
  }
  const double count = static_cast<double>(source.inputs.size()) / static_cast<double>(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    scaling.mean[c] /= count;
    scaling.deviation[c] = std::sqrt(squares[c] / count - scaling.mean[c] * scaling.mean[c]);
  }
  return scaling;
}

/// Samples `begin` to `end` in an order of their own, scaled.
Data take(const Dataset& source, const Scaling& scaling, std::size_t begin, std::size_t end) {
  std::vector<std::size_t> order(source.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Rng rng(5);
  shuffle(std::span(order), rng);
  const std::size_t length = source.sample_size() / scaling.mean.size();
  std::vector<float> sample(source.sample_size());
  Data data;
  for (std::size_t k = begin; k < std::min(order.size(), end); ++k) {
    const auto raw = source.sample(order[k]);
    for (std::size_t i = 0; i < sample.size(); ++i) {
      sample[i] = static_cast<float>((raw[i] - scaling.mean[i / length]) / scaling.deviation[i / length]);
    }
    data.add(sample, source.labels[order[k]]);
  }
  return data;
}

std::vector<float> fit(Model& model, const std::vector<float>& base, const Data& data, std::uint32_t epochs,
                       double rate, std::optional<SoftTargets> teacher = {}, bool pruned = false) {
  const TrainingParameters parameters{.epochs = epochs,
                                      .batch_size = 32,
                                      .learning_rate = rate,
                                      .seed = 1,
                                      .optimizer = OptimizerKind::adam,
                                      .pruned = pruned};
  const auto outcome =
      train(model, base, {.inputs = data.inputs, .labels = data.labels, .teacher = teacher}, parameters)
          .value();
  if (outcome.end != TrainingEnd::finished) fmt::print("  training ended early: {}\n", outcome.detail);
  return model.weights();
}

struct Row {
  std::string form;
  std::uint32_t epochs = 0;  // That its weights were trained for, in all.
  std::size_t bytes = 0;
  std::size_t parameters = 0;
  double accuracy = 0;
  double microseconds = 0;
  std::string engine;
};

double accuracy_of(const InferenceModel& model, const Data& data) {
  const auto predictions = model.infer_batch(data.inputs).value();
  double right = 0;
  for (std::size_t i = 0; i < data.size(); ++i) right += predictions[i].class_index == data.labels[i] ? 1 : 0;
  return right / static_cast<double>(data.size());
}

/// Medians in turns, microseconds a sample.
struct Times {
  double taken = 0;  // of the engine that a node takes
  double int8 = 0;   // static
  double script = 0;
  double optimized = 0;
};

EngineSetup static_int8(const ActivationRanges& ranges) {
  return {{EngineKind::int8_static, int8_backends().at(0), activation_bits_of_cpu()}, ranges};
}

/// What choose_engine() measured is not used again: of its own trials it always takes the fastest.
Times time_in_turns(const EngineQuestion& question, const EngineChoice& choice) {
  const auto sample = question.fp32.inputs.first(question.spec.architecture.input_size());
  const auto contender = [&](const char* name, const EngineSetup& setup) {
    auto model = std::make_shared<InferenceModel>(
        InferenceModel::load(question.spec, question.weights, setup).value());
    return Contender{name, [model, sample] { model->infer(sample).value(); }};
  };
  std::vector<Contender> contenders = {contender("taken", choice.setup),
                                       contender("int8", static_int8(*question.ranges)),
                                       contender("script", {{EngineKind::fp32_script}, {}}),
                                       contender("optimized", {{EngineKind::fp32_optimized}, {}})};
  take_turns(contenders, 20, 50);
  const auto time = [&](std::size_t i) { return median(contenders[i].times); };
  return {time(0), time(1), time(2), time(3)};
}

/// The row of a form in which the weights travel, and with `times` what the engines take for it.
Row weigh(const std::string& label, std::uint32_t epochs, SnapshotForm form, const Model& model,
          const std::vector<float>& weights, const Task& task, Times* times = nullptr) {
  const Bytes file = encode_snapshot(form, model.layout(), weights).value();
  const std::vector<float> served = decode_snapshot(form, model.layout(), file).value();
  const InferenceSpec spec{model.architecture(), model.layout(), TaskKind::classification, {}, {}};
  const auto sample = std::span(task.test.inputs).first(4 * task.test.width);
  EngineSetup setup;
  std::optional<ActivationRanges> ranges;
  if (dense_form(form) == SnapshotForm::int8) {
    const std::size_t count = std::min(task.train.size(), calibration_samples);
    ranges = calibrate(spec, served, std::span(task.train.inputs).first(count * task.train.width)).value();
  }
  const auto reference = InferenceModel::load(spec, served).value();
  const std::vector<float> answers = answers_of(spec.task, reference.infer_batch(sample).value());
  EngineQuestion question{.spec = spec, .weights = served};
  question.ranges = ranges ? &*ranges : nullptr;
  question.fp32 = {sample, answers, float_tolerance_of(spec.task, answers)};
  question.int8 = {sample, answers, int8_tolerance_of(spec.task, answers)};
  if (!ranges) std::erase_if(question.candidates, [](const Engine& engine) { return is_int8(engine.kind); });
  const EngineChoice choice = choose_engine(question, steady_stopwatch()).value();
  if (times != nullptr) *times = time_in_turns(question, choice);
  // What is reported of int8 is what its kernels answer, also where they are not taken.
  double accuracy = accuracy_of(*choice.model, task.test);
  if (ranges && !is_int8(choice.setup.engine.kind)) {
    accuracy = accuracy_of(InferenceModel::load(spec, served, static_int8(*ranges)).value(), task.test);
  }
  const double time = choice.trials[*choose(choice.trials)].microseconds;
  return {label, epochs, file.size(), model.size(), accuracy, time, name(choice.setup.engine)};
}

/// As rounds do it: the master stays dense, nodes train from what is left of it.
/// @param sparsity in the end; 0: the same training without pruning.
std::vector<float> prune_in_steps(Model& model, std::vector<float> master, const Data& data,
                                  double sparsity) {
  const PruningPlan plan{sparsity, 0, pruning_steps};
  std::vector<float> pruned = master;
  for (std::uint32_t step = 1; step <= pruning_epochs; ++step) {
    const std::vector<float> base = pruned;
    const std::vector<float> trained =
        fit(model, base, data, 1, 3e-4, {}, hides_pruned_weights(plan, model.layout()));
    for (std::size_t i = 0; i < master.size(); ++i) master[i] += trained[i] - base[i];
    pruned = master;
    prune(pruned, model.layout(), sparsity_at(plan, step));
  }
  return pruned;
}

Verdict verdict;

void run(const Task& task) {
  fmt::print("{}: {} training and {} test samples\n", task.name, task.train.size(), task.test.size());
  Model model = Model::build(task.teacher).value();
  const std::vector<float> weights = fit(model, model.initial_weights(1), task.train, task.epochs, 1e-3);
  Times times;
  std::vector<Row> rows = {weigh("fp32", task.epochs, SnapshotForm::fp32, model, weights, task),
                           weigh("int8", task.epochs, SnapshotForm::int8, model, weights, task, &times)};

  Model student = Model::build(task.student).value();
  const std::vector<float> soft = answers_of(model, task.train.inputs).value();
  const std::vector<float> taught = fit(student, student.initial_weights(2), task.train, 2 * task.epochs,
                                        1e-3, SoftTargets{.outputs = soft});
  const std::vector<float> sparse = prune_in_steps(model, weights, task.train, pruned_fraction);
  const std::vector<float> twin = prune_in_steps(model, weights, task.train, 0);
  const std::uint32_t longer = task.epochs + pruning_epochs;
  rows.push_back(weigh("60 % pruned", longer, SnapshotForm::sparse_int8, model, sparse, task));
  rows.push_back(weigh("student", 2 * task.epochs, SnapshotForm::int8, student, taught, task));
  rows.push_back(weigh("fp32, longer", longer, SnapshotForm::fp32, model, twin, task));
  for (const Row& row : rows) {
    fmt::print("  {:<12} {:>2} epochs {:>9} bytes {:>8} parameters   accuracy {:.4f}   {:>8.1f} us  {}\n",
               row.form, row.epochs, row.bytes, row.parameters, row.accuracy, row.microseconds, row.engine);
  }
  verdict.bar("int8 file / fp32 file",
              static_cast<double>(rows[1].bytes) / static_cast<double>(rows[0].bytes), task.file_ratio);
  if (task.to_script > 0)
    verdict.bar("int8 latency / fp32 script", times.int8 / times.script, task.to_script);
  if (task.to_script > 0)
    verdict.bar("int8 latency / fp32 optimized", times.int8 / times.optimized, task.to_optimized);
  verdict.bar("latency of the engine taken / fp32 optimized", times.taken / times.optimized, timing_noise);
  verdict.bar("accuracy that int8 costs", std::max(0.0, rows[0].accuracy - rows[1].accuracy), 0.005);
  const double dense = std::max(rows[0].accuracy, rows[4].accuracy);
  verdict.bar("accuracy that pruning and int8 cost", std::max(0.0, dense - rows[2].accuracy), 0.01);
  verdict.bar("0.97 of the teacher's accuracy / the student's", 0.97 * rows[0].accuracy / rows[3].accuracy,
              1);
  verdict.bar("the student's parameters / the teacher's",
              static_cast<double>(rows[3].parameters) / static_cast<double>(rows[0].parameters), 0.5);
}

Dataset idx(const char* folder, const char* images) {
  return load_dataset(data_folder() / folder / images, SampleFormat::idx, {}, {}).value();
}

void fill_with_images(Task& task, const char* folder, std::size_t train, std::size_t test) {
  const Dataset images = idx(folder, "train-images-idx3-ubyte.gz");
  const Scaling scaling = scaling_of(images, 1);
  task.train = take(images, scaling, 0, train);
  task.test = take(idx(folder, "t10k-images-idx3-ubyte.gz"), scaling, 0, test);
}

Task digits() {
  Task task{"digits, cnn",
            {.kind = "cnn", .hidden = {128}, .input_shape = {1, 8, 8}, .outputs = 10},
            {.kind = "cnn", .hidden = {80}, .input_shape = {1, 8, 8}, .outputs = 10},
            {},
            {},
            15,
            0.30};  // Less than 1 MB: scales and biases are a larger part.
  task.teacher.channels = {32, 64};
  task.student.channels = {24, 40};
  for (Architecture* one : {&task.teacher, &task.student}) one->kernel = 3, one->pool = 2;
  const Dataset all = embedded_digits().value();
  const Scaling scaling = scaling_of(all, 1);
  task.train = take(all, scaling, 0, 1297);
  task.test = take(all, scaling, 1297, all.size());
  return task;
}

Task mnist() {
  Task task{"MNIST, mcmahan_cnn",
            {.kind = "mcmahan_cnn", .input_shape = {1, 28, 28}, .outputs = 10},
            {.kind = "cnn", .hidden = {384}, .input_shape = {1, 28, 28}, .outputs = 10},
            {},
            {},
            2};
  task.student.channels = {24, 40};
  task.student.kernel = 5;
  task.student.pool = 2;
  task.to_script = 1.0 / 3;
  task.to_optimized = 1 / 2.3;
  fill_with_images(task, "mnist", 8000, 10000);
  return task;
}

Task fashion() {
  Task task{"Fashion-MNIST at 64x64, mobilenet_v2 of width 0.5",
            {.kind = "mobilenet_v2", .input_shape = {1, 28, 28}, .outputs = 10},
            {.kind = "mobilenet_v2", .input_shape = {1, 28, 28}, .outputs = 10},
            {},
            {},
            4,
            0.30};  // Batch norm and biases travel as float32.
  task.teacher.width = 0.5;
  task.student.width = 0.25;
  task.teacher.resolution = task.student.resolution = 64;
  task.to_script = 1.0 / 3;
  task.to_optimized = 1 / 2.3;
  fill_with_images(task, "fashion_mnist", 4000, 10000);
  return task;
}

/// Windows of people whom training never saw are the test split, as the data's authors have it.
Task activities() {
  Task task{"activities, cnn1d",
            {.kind = "cnn1d", .input_shape = {6, 128}, .outputs = 6},
            {.kind = "cnn1d", .input_shape = {6, 128}, .outputs = 6},
            {},
            {},
            8,
            0.30};  // Less than 1 MB.
  task.teacher.channels = {64, 64};
  task.student.channels = {44, 44};
  for (Architecture* one : {&task.teacher, &task.student}) one->kernel = 5, one->pool = 2;
  const auto read = [](const char* labels) {
    SampleOptions options;
    options.label = (data_folder() / "har_smartphone" / labels).string();
    return load_dataset(data_folder() / "har_smartphone/windows-idx3-short.gz", SampleFormat::idx, options,
                        {})
        .value();
  };
  const Dataset all = read("labels-idx1-ubyte.gz"), people = read("subjects-idx1-ubyte.gz");
  const std::vector<std::string> unseen = {"2", "4", "9", "10", "12", "13", "18", "20", "24"};
  std::vector<std::size_t> training, testing;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all.labels[i] >= 6) continue;  // The rare transitions between postures.
    const std::string& person = people.classes[static_cast<std::size_t>(people.labels[i])];
    (std::ranges::find(unseen, person) != unseen.end() ? testing : training).push_back(i);
  }
  const Dataset known = select(all, training);
  const Scaling scaling = scaling_of(known, 6);
  task.train = take(known, scaling, 0, known.size());
  task.test = take(select(all, testing), scaling, 0, testing.size());
  return task;
}

}  // namespace

int main(int argc, char** argv) {
  use_one_thread();
  fmt::print("on {}, {}\n", processor_name(),
             activation_bits_of_cpu() == ActivationBits::eight ? "with VNNI" : "without VNNI");
  const std::string only = argc > 1 ? argv[1] : "";
  const std::vector<std::pair<std::string, std::function<Task()>>> tasks = {
      {"digits", digits}, {"mnist", mnist}, {"fashion", fashion}, {"activities", activities}};
  bool any_skipped = false;
  for (const auto& [name, make] : tasks) {
    if (!only.empty() && only != name) continue;
    if (name != "digits" && !std::filesystem::exists(data_folder())) {
      fmt::print("{}: skipped, RIVULET_DATA names no folder\n", name);
      any_skipped = true;
      continue;
    }
    run(make());
  }
  fmt::print("{}\n", !verdict.all_held() ? "a bar is missed: see the ratios above 1"
                     : any_skipped       ? "every bar is met of what was not skipped"
                                         : "every bar is met");
  return verdict.all_held() ? 0 : 1;
}
