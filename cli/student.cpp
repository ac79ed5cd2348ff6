#include "cli/student.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <numeric>

#include "cli/writes_nothing.h"
#include "models/dataset/dataset.h"
#include "models/runtime/evaluation.h"
#include "models/runtime/local_statistics.h"
#include "models/runtime/preprocessing.h"
#include "models/runtime/release_model.h"
#include "models/runtime/training.h"
#include "protocol/rng.h"

namespace rivulet::cli {
namespace {

constexpr std::uint64_t split_stream = 2;
constexpr std::uint64_t order_stream = 3;
/// One in so many samples of the data is held out.
constexpr std::size_t held_out_share = 10;

bool same_values(const std::vector<float>& one, const std::vector<float>& other, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    if (one[i * one.size() / size] != other[i * other.size() / size]) return false;
  return true;
}

/// Whether the student can stand in for the teacher.
Status check_fit(const ModelSpec& spec, const Release& teacher) {
  const auto wrong = [](const char* key, const std::string& why) {
    return fail(Errc::invalid, fmt::format("the student's {} does not fit its teacher: {}", key, why));
  };
  if (spec.name != teacher.name)
    return wrong("name", fmt::format("it is {}, and that of the fleet's model {}", spec.name, teacher.name));
  if (spec.task != teacher.task) return wrong("task.kind", "both must be for the same");
  if (spec.classes != teacher.classes)
    return wrong("task.classes", fmt::format("they must be the teacher's {}, in its order: {}",
                                             teacher.classes.size(), fmt::join(teacher.classes, ", ")));
  const std::size_t size = teacher.architecture.input_size();
  if (spec.architecture.input_size() != size)
    return wrong("input.shape", fmt::format("a sample has {} numbers, and {} of the teacher's",
                                            spec.architecture.input_size(), size));
  if (spec.architecture.outputs != teacher.architecture.outputs)
    return wrong("task.outputs", fmt::format("they are {}, and the teacher's {}", spec.architecture.outputs,
                                             teacher.architecture.outputs));
  // What an anomaly model answers is measured in preprocessed inputs.
  const bool same = same_values(spec.preprocessing.mean, teacher.preprocessing.mean, size) &&
                    same_values(spec.preprocessing.scale, teacher.preprocessing.scale, size);
  if (spec.task == TaskKind::anomaly && !same)
    return wrong("input.mean and input.scale", "an anomaly model must have those of its teacher");
  return {};
}

/// Without a label named, an IDX file may still have one beside it.
Result<bool> has_labels(const std::filesystem::path& file, SampleFormat format,
                        const SampleOptions& options) {
  if (!options.label.empty()) return true;
  if (format != SampleFormat::idx) return false;
  auto reader = open_samples(file, format, options);
  if (!reader) return std::unexpected(reader.error());
  const auto first = (*reader)->next();
  if (!first) return std::unexpected(first.error());
  const auto* sample = *first ? std::get_if<RawSample>(&**first) : nullptr;
  return sample != nullptr && sample->label.has_value();
}

Result<Dataset> read_data(const ModelSpec& spec, const std::filesystem::path& file,
                          const std::string& label) {
  const auto format = format_of(file);
  if (!format)
    return fail(Errc::invalid,
                fmt::format("{}: the name of a file of samples ends in .csv, or has idx and a digit in it, "
                            "with or without .gz: rename it",
                            file.string()));
  SampleOptions options;
  options.label = label;
  const auto labelled = has_labels(file, *format, options);
  if (!labelled) return std::unexpected(labelled.error());
  if (*labelled && spec.task == TaskKind::regression && spec.architecture.outputs != 1)
    return fail(Errc::unsupported, fmt::format("a file has one value a sample, but the model {}: leave out "
                                               "--label",
                                               spec.architecture.outputs));
  // The rule of an anomaly model asks for no labels.
  const LabelRule rule{*labelled ? spec.task : TaskKind::anomaly, spec.classes};
  auto data = load_dataset(file, *format, options, rule);
  if (!data) return data;
  if (data->sample_size() == spec.architecture.input_size()) return data;
  return fail(Errc::invalid,
              fmt::format("{}: its samples have {} numbers, but the model's have {}: name the column of the "
                          "labels with --label, or mend the file",
                          file.string(), data->sample_size(), spec.architecture.input_size()));
}

struct Splits {
  Dataset training;
  Dataset held_out;
};

Result<Splits> read_splits(const ModelSpec& spec, const DistillOptions& options, std::uint64_t seed) {
  auto data = read_data(spec, options.data, options.label);
  if (!data) return fail_at("--data", data.error());
  if (!options.holdout.empty()) {
    auto held_out = read_data(spec, options.holdout, options.label);
    if (!held_out) return fail_at("--holdout", held_out.error());
    return Splits{std::move(*data), std::move(*held_out)};
  }
  if (data->size() < 2)
    return fail(Errc::invalid, fmt::format("--data: {} has one sample, and one must be held out: give "
                                           "more, or --holdout FILE",
                                           options.data.string()));
  std::vector<std::size_t> order(data->size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Rng rng(derive_seed(seed, split_stream));
  shuffle(std::span(order), rng);
  const std::size_t count = std::max<std::size_t>(1, order.size() / held_out_share);
  const std::span<const std::size_t> indices(order);
  return Splits{select(*data, indices.subspan(count)), select(*data, indices.first(count))};
}

Result<std::vector<float>> preprocessed(const Dataset& data, const Preprocessing& preprocessing,
                                        const Architecture& architecture) {
  const auto preprocessor = Preprocessor::make(preprocessing, architecture.input_shape);
  if (!preprocessor) return std::unexpected(preprocessor.error());
  std::vector<float> inputs = data.inputs;
  preprocessor->apply(inputs);
  return inputs;
}

/// A network and how it sees samples.
struct Pupil {
  Model model;
  const Preprocessing& preprocessing;

  [[nodiscard]] Result<std::vector<float>> inputs(const Dataset& data) const {
    return preprocessed(data, preprocessing, model.architecture());
  }
};

/// A teacher whose nodes measure statistics of their own has none: here it takes those of the data.
Status set_teacher(Pupil& pupil, const TeacherModel& teacher, const Dataset& data) {
  if (teacher.release.batch_norm == BatchNorm::averaged) return pupil.model.set_weights(teacher.weights);
  const auto inputs = pupil.inputs(data);
  if (!inputs) return std::unexpected(inputs.error());
  const auto weights = with_local_statistics(pupil.model, teacher.weights, *inputs);
  return weights ? Status() : std::unexpected(weights.error());
}

/// Trains the student and leaves it with its weights.
Status teach(Pupil& student, Pupil& teacher, std::span<const float> initial, const Dataset& data,
             const ModelSpec& spec, const DistillOptions& options, std::uint64_t seed) {
  auto seen = teacher.inputs(data);
  if (!seen) return std::unexpected(seen.error());
  const auto answers = answers_of(teacher.model, *seen);
  if (!answers) return std::unexpected(answers.error());
  seen = student.inputs(data);
  if (!seen) return std::unexpected(seen.error());
  const TrainingData training{.inputs = *seen,
                              .labels = data.labels,
                              .targets = data.targets,
                              .task = spec.task,
                              .teacher = SoftTargets{*answers, options.temperature, options.soft_weight},
                              .loss = spec.loss};
  const TrainingParameters parameters{.epochs = options.epochs,
                                      .batch_size = options.batch_size,
                                      .learning_rate = options.learning_rate,
                                      .seed = derive_seed(seed, order_stream),
                                      .optimizer = OptimizerKind::adam};
  const auto outcome = train(student.model, initial, training, parameters);
  if (!outcome) return std::unexpected(outcome.error());
  if (outcome->end == TrainingEnd::finished) return {};
  return fail(Errc::refused,
              "the student did not learn, its numbers grew beyond all bounds: lower "
              "--learning-rate");
}

Result<Evaluation> score(Pupil& pupil, const Dataset& data, const ModelSpec& spec) {
  const auto inputs = pupil.inputs(data);
  if (!inputs) return std::unexpected(inputs.error());
  if (spec.task == TaskKind::classification) return evaluate(pupil.model, *inputs, data.labels);
  return evaluate_values(pupil.model, *inputs, spec.task == TaskKind::anomaly ? *inputs : data.targets,
                         nullptr, spec.loss);
}

/// Without labels or targets the teacher's answers take their place.
Status answer_in_place(Pupil& teacher, Dataset& data, TaskKind task) {
  const auto inputs = teacher.inputs(data);
  if (!inputs) return std::unexpected(inputs.error());
  auto answers = answers_of(teacher.model, *inputs);
  if (!answers) return std::unexpected(answers.error());
  if (task == TaskKind::regression) {
    data.targets = std::move(*answers);
    return {};
  }
  const auto outputs = static_cast<std::ptrdiff_t>(teacher.model.architecture().outputs);
  for (auto row = answers->cbegin(); row != answers->cend(); row += outputs)
    data.labels.push_back(std::max_element(row, row + outputs) - row);
  return {};
}

Status compare(Pupil& student, Pupil& teacher, Dataset& held_out, const ModelSpec& spec,
               DistillationReport& report) {
  const bool is_class = spec.task == TaskKind::classification;
  const bool alone =
      is_class ? held_out.labels.empty() : spec.task == TaskKind::regression && held_out.targets.empty();
  report.measure = !is_class ? "error" : alone ? "agreement" : "accuracy";
  if (alone) {
    if (Status status = answer_in_place(teacher, held_out, spec.task); !status) return status;
  }
  const auto taught = score(student, held_out, spec);
  if (!taught) return std::unexpected(taught.error());
  const auto teaching = score(teacher, held_out, spec);
  if (!teaching) return std::unexpected(teaching.error());
  report.student = is_class ? taught->accuracy() : taught->mean_loss();
  report.teacher = is_class ? teaching->accuracy() : teaching->mean_loss();
  report.held_out = held_out.size();
  return {};
}

/// @param prepared is of prepare_model, and gets the trained weights. Builds and runs both networks.
Result<DistillationReport> train_student(const ModelSpec& spec, const PrepareOptions& prepare,
                                         const TeacherModel& teacher, const DistillOptions& options,
                                         Splits& splits, PreparedModel& prepared) {
  auto release = decode_release(prepared.release);
  if (!release) return std::unexpected(release.error());
  auto network = build_model(*release);
  if (!network) return std::unexpected(network.error());
  auto teaching = build_model(teacher.release);
  if (!teaching) return fail_at("the teacher", teaching.error());
  Pupil student{std::move(*network), release->preprocessing};
  Pupil master{std::move(*teaching), teacher.release.preprocessing};
  if (const Status set = set_teacher(master, teacher, splits.training); !set)
    return fail_at("the teacher", set.error());
  const Status taught =
      teach(student, master, prepared.weights, splits.training, spec, options, prepare.seed);
  if (!taught) return std::unexpected(taught.error());

  DistillationReport report;
  report.samples = splits.training.size();
  report.teacher_parameters = master.model.size();
  report.student_parameters = student.model.size();
  if (const Status compared = compare(student, master, splits.held_out, spec, report); !compared)
    return std::unexpected(compared.error());
  prepared.weights = student.model.weights();
  release->teacher = teacher.link;
  begin_with(*release, prepared.weights, spec.limits.max_distance);
  if (const Status sound = check(*release); !sound) return std::unexpected(sound.error());
  prepared.release = encode(*release);
  return report;
}

}  // namespace

Result<Student> make_student(const ModelSpec& spec, const PrepareOptions& prepare,
                             const TeacherModel& teacher, const DistillOptions& options) {
  if (const Status fit = check_fit(spec, teacher.release); !fit) return std::unexpected(fit.error());
  auto splits = read_splits(spec, options, prepare.seed);
  if (!splits) return std::unexpected(splits.error());
  auto prepared = prepare_model(spec, prepare);
  if (!prepared) return std::unexpected(prepared.error());
  // Either network may be a user's.
  auto report =
      without_writing([&] { return train_student(spec, prepare, teacher, options, *splits, *prepared); });
  if (!report) return std::unexpected(report.error());
  return Student{std::move(*prepared), std::move(*report)};
}

}  // namespace rivulet::cli
