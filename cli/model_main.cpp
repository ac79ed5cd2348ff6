// rivulet-model: what the operator's machine needs LibTorch for. rivulet starts it with limits on memory and
// time, and signs what it leaves in a folder; it needs neither a key nor a coordinator.
#include <malloc.h>
#include <spdlog/fmt/fmt.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <limits>
#include <string>

#include "cli/profiling.h"
#include "cli/student.h"
#include "config/exit_status.h"
#include "config/software.h"
#include "models/runtime/runtime.h"
#include "storage/file.h"

using namespace rivulet;

namespace {

constexpr std::int64_t number_max = std::numeric_limits<std::int64_t>::max();

struct Arguments {
  std::string spec;
  std::string out;
  std::string fleet;
  std::uint64_t seed = 1;
  std::uint64_t epoch = 0;
  std::string teacher;  ///< A folder.
  std::uint64_t teacher_version = 0;
  cli::DistillOptions distill;
  std::string folder;  ///< Of an export or a profile.
  std::uint64_t number = 0;
  bool json = false;
  std::vector<std::string> variants;       ///< Of the version; these run in float,
  std::vector<std::string> int8_variants;  ///< and these in int8 too.
};

Result<cli::PrepareOptions> prepare_options(const Arguments& arguments) {
  const auto fleet = FleetId::from_hex(arguments.fleet);
  if (!fleet)
    return fail(Errc::invalid, "--fleet must be the fleet's 32 hexadecimal digits: see 'rivulet trust show'");
  const UtcTime created = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  return cli::PrepareOptions{*fleet, arguments.seed, arguments.epoch, created};
}

Status prepare(const Arguments& arguments) {
  const auto options = prepare_options(arguments);
  if (!options) return std::unexpected(options.error());
  const auto spec = load_model_spec(arguments.spec);
  if (!spec) return std::unexpected(spec.error());
  const auto model = cli::prepare_model(*spec, *options);
  if (!model) return std::unexpected(model.error());
  return cli::write_prepared(arguments.out, *model);
}

Status distill(const Arguments& arguments) {
  const auto options = prepare_options(arguments);
  if (!options) return std::unexpected(options.error());
  if (const Status checked = check(arguments.distill); !checked) return checked;
  const auto spec = load_model_spec(arguments.spec);
  if (!spec) return std::unexpected(spec.error());
  auto handed = cli::read_prepared(arguments.teacher);
  if (!handed) return fail_at("--teacher", handed.error());
  auto release = decode_release(handed->release);
  if (!release) return fail_at("--teacher", release.error());
  const cli::TeacherModel teacher{{release_id(handed->release), arguments.teacher_version},
                                  std::move(*release),
                                  std::move(handed->weights)};
  const auto student = cli::make_student(*spec, *options, teacher, arguments.distill);
  if (!student) return std::unexpected(student.error());
  if (const Status written = cli::write_prepared(arguments.out, student->model); !written) return written;
  return cli::write_report(arguments.out, student->report);
}

/// @param folder of a prepared model, which gets the file model.pt.
Status export_folder(const std::string& folder) {
  const auto model = cli::read_prepared(folder);
  if (!model) return std::unexpected(model.error());
  const auto release = decode_release(model->release);
  if (!release) return std::unexpected(release.error());
  const auto file = cli::export_torchscript(*release, model->weights);
  if (!file) return std::unexpected(file.error());
  return write_file_durably(std::filesystem::path(folder) / "model.pt", *file);
}

/// @param folder of a prepared model, which gets the file profile.svg.
Status profile_folder(const Arguments& arguments) {
  const std::string& folder = arguments.folder;
  std::vector<OfferedVariant> offered;
  for (const std::string& name : arguments.variants) offered.push_back({name, false, {}});
  for (const std::string& name : arguments.int8_variants) offered.push_back({name, true, {}});
  const auto model = cli::read_prepared(folder);
  if (!model) return std::unexpected(model.error());
  const auto report = cli::profile_prepared(*model, arguments.number, offered);
  if (!report) return std::unexpected(report.error());
  const auto chart = to_svg(*report);
  const Status written = write_file_durably(std::filesystem::path(folder) / "profile.svg", bytes_of(chart));
  if (!written) return written;
  fmt::print("{}", arguments.json ? to_json(*report) + "\n" : to_table(*report));
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return {};
  return fail(Errc::storage_full, "cannot write to standard output: is the disk full?");
}

/// The specification and its data are the operator's too, so what is wrong with them is wrong usage.
int status_of(Errc code) {
  const bool data = code == Errc::corrupt || code == Errc::not_found || code == Errc::too_large;
  return data ? exit_wrong_usage : exit_status(code);
}

void add_common_options(CLI::App& command, Arguments& arguments) {
  command.add_option("spec", arguments.spec, "The specification, a TOML file")->required();
  command
      .add_option("--out", arguments.out, "An existing folder for release.payload, weights.f32 and the data")
      ->required();
  command.add_option("--fleet", arguments.fleet, "The id of the fleet, 32 hexadecimal digits")->required();
  command.add_option("--seed", arguments.seed, "Of the starting weights")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{0}, number_max));
  command.add_option("--epoch", arguments.epoch, "Nodes refuse versions of a lower one")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{0}, number_max));
}

void add_distill_options(CLI::App& command, Arguments& arguments) {
  cli::DistillOptions& options = arguments.distill;
  command.add_option("--teacher", arguments.teacher, "A folder with release.payload and weights.f32")
      ->required();
  command.add_option("--teacher-version", arguments.teacher_version, "Its number")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, number_max));
  command.add_option("--data", options.data, "Samples, CSV or IDX")->required();
  command.add_option("--label", options.label, "As 'rivulet model distill' has it");
  command.add_option("--holdout", options.holdout, "Samples to compare on; else a tenth of the data");
  command.add_option("--temperature", options.temperature, "Of the soft loss")->capture_default_str();
  command.add_option("--soft-weight", options.soft_weight, "Of the soft loss")->capture_default_str();
  command.add_option("--epochs", options.epochs, "Passes over the data")->capture_default_str();
  command.add_option("--batch-size", options.batch_size, "Samples a step")->capture_default_str();
  command.add_option("--learning-rate", options.learning_rate, "Of Adam")->capture_default_str();
}

int report(const std::string& detail, int status) {
  std::string line = detail;
  std::ranges::replace(line, '\n', ' ');
  fmt::print(stderr, "rivulet-model: {}\n", line);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Prepares models on the operator's machine; 'rivulet model import' starts it.",
               "rivulet-model");
  app.set_version_flag("--version", software_name);
  app.require_subcommand(1);
  Arguments arguments;
  CLI::App* preparing =
      app.add_subcommand("prepare", "Make of a model specification what the release key signs");
  add_common_options(*preparing, arguments);
  CLI::App* distilling = app.add_subcommand("distill", "Train the network of a specification on a teacher");
  add_common_options(*distilling, arguments);
  add_distill_options(*distilling, arguments);
  CLI::App* exporting = app.add_subcommand("export", "Write a prepared model as TorchScript");
  exporting->add_option("folder", arguments.folder, "With release.payload and weights.f32; gets model.pt")
      ->required();
  CLI::App* profiling = app.add_subcommand("profile", "Time a prepared model by every engine");
  profiling->add_option("folder", arguments.folder, "With release.payload and weights.f32; gets profile.svg")
      ->required();
  profiling->add_option("--number", arguments.number, "Of the version, for the heading")
      ->check(CLI::Range(std::int64_t{0}, number_max));
  profiling->add_flag("--json", arguments.json, "Print one JSON document");
  profiling->add_option("--variant", arguments.variants, "One that the version offers, in float");
  profiling->add_option("--in-int8", arguments.int8_variants, "One that it offers in int8 too");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    const auto unknown = app.remaining(true);
    const std::string what = unknown.empty() ? error.what() : "'" + unknown.front() + "' is not known here";
    return report(what + ": see 'rivulet-model --help'", exit_wrong_usage);
  }
  use_one_thread();
  // malloc_trim() gives back all of the first arena alone: what one engine freed in another would count for
  // the next one's peak.
  ::mallopt(M_ARENA_MAX, 1);
  try {
    const auto run = [&]() -> Status {
      if (exporting->parsed()) return export_folder(arguments.folder);
      if (profiling->parsed()) return profile_folder(arguments);
      return distilling->parsed() ? distill(arguments) : prepare(arguments);
    };
    const Status status = run();
    return status ? 0 : report(status.error().detail, status_of(status.error().code));
  } catch (const std::exception& error) {
    return report(std::string("it failed in a way that was not foreseen: ") + error.what(), exit_failed);
  }
}
