#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/files.h"
#include "cli/model_process.h"
#include "cli/prepared_model.h"
#include "cli/release_publishing.h"
#include "cli/text.h"
#include "models/package/spec.h"

namespace rivulet::cli {
namespace {

using nlohmann::json;

/// Of one core, and of data that may be large.
constexpr std::uint64_t distillation_cpu_seconds = std::uint64_t{7} * 86400;

struct Distilled {
  PreparedModel model;
  DistillationReport report;
};

/// Lets rivulet-model train the student, from a folder with the teacher into another.
Result<Distilled> distill(const DistillCommand& command, const ReleaseFleet& fleet, PublishedModel teacher) {
  const auto program = sibling_program("rivulet-model");
  if (!program) return std::unexpected(program.error());
  const auto from = ScratchFolder::make();
  if (!from) return std::unexpected(from.error());
  const auto to = ScratchFolder::make();
  if (!to) return std::unexpected(to.error());
  PreparedModel handed;
  handed.release = std::move(teacher.envelope.payload);
  handed.weights = std::move(teacher.weights);
  if (const Status written = write_prepared(from->path(), handed); !written)
    return std::unexpected(written.error());
  const DistillOptions& options = command.options;
  std::vector<std::string> arguments = {"distill",
                                        "--teacher=" + from->path().string(),
                                        fmt::format("--teacher-version={}", teacher.version),
                                        "--out=" + to->path().string(),
                                        "--fleet=" + fleet.id.hex(),
                                        fmt::format("--seed={}", command.seed),
                                        fmt::format("--epoch={}", fleet.epoch),
                                        "--data=" + options.data.string(),
                                        fmt::format("--temperature={}", options.temperature),
                                        fmt::format("--soft-weight={}", options.soft_weight),
                                        fmt::format("--epochs={}", options.epochs),
                                        fmt::format("--batch-size={}", options.batch_size),
                                        fmt::format("--learning-rate={}", options.learning_rate)};
  if (!options.label.empty()) arguments.push_back("--label=" + options.label);
  if (!options.holdout.empty()) arguments.push_back("--holdout=" + options.holdout.string());
  arguments.insert(arguments.end(), {"--", command.spec.string()});
  ProcessLimits limits;
  limits.cpu_seconds = distillation_cpu_seconds;
  if (const Status done = run_limited(*program, arguments, limits); !done)
    return std::unexpected(done.error());
  auto model = read_prepared(to->path());
  if (!model) return std::unexpected(model.error());
  auto report = read_report(to->path());
  if (!report) return std::unexpected(report.error());
  return Distilled{std::move(*model), std::move(*report)};
}

std::string text_of(const DistillationReport& report) {
  const std::string measured = report.measure == "agreement"
                                   ? fmt::format("says what the teacher says to {:.4f}", report.student)
                                   : fmt::format("{} {:.4f} against the teacher's {:.4f}", report.measure,
                                                 report.student, report.teacher);
  const std::string ratio = report.ratio() ? fmt::format(", ratio {:.4f}", *report.ratio()) : "";
  return fmt::format("{} of the teacher's {} parameters, {} on {} held-out samples{}",
                     report.student_parameters, report.teacher_parameters, measured, report.held_out, ratio);
}

}  // namespace

Status distill_model(const ConnectionOptions& connection, const DistillCommand& command) {
  if (const Status checked = check(command.options); !checked) return checked;
  const auto spec = load_model_spec(command.spec);
  if (!spec) return std::unexpected(as_usage(spec.error()));
  const auto key = load_key(command.release_key, "release key");
  if (!key) return std::unexpected(key.error());
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  const auto fleet = ask_fleet(*client, key->public_key());
  if (!fleet) return std::unexpected(fleet.error());
  auto teacher = get_teacher(*client, command.teacher, key->public_key());
  if (!teacher) return std::unexpected(teacher.error());
  const Teacher link = link_to(*teacher);
  const auto student = distill(command, *fleet, std::move(*teacher));
  if (!student) return std::unexpected(student.error());
  const auto release = check_prepared(student->model, *spec, fleet->id, fleet->epoch, link);
  if (!release) return std::unexpected(release.error());
  // Before all nodes get it, and also if the coordinator refuses it.
  for (const std::string& note : student->model.notes) fmt::print(stderr, "rivulet: note: {}\n", note);
  auto answer = publish_release(*client, student->model, *key);
  if (!answer) return std::unexpected(answer.error());
  if (command.json) {
    (*answer)["teacher"] = {{"release", link.release.hex()}, {"version", link.version}};
    (*answer)["distillation"] = to_json(student->report);
    print(json_line(*answer));
    return {};
  }
  print(fmt::format("release {} of {} is version {}, a student of version {}: {}\n",
                    answer->at("release").get<std::string>(), release->name,
                    answer->at("version").get<VersionNumber>(), link.version, text_of(student->report)));
  return {};
}

}  // namespace rivulet::cli
