// rivulet-model: what the operator's machine needs LibTorch for. rivulet starts it with limits on memory and
// time, and signs what it leaves in a folder; it needs neither a key nor a coordinator.
#include <spdlog/fmt/fmt.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <limits>
#include <string>

#include "cli/prepare.h"
#include "config/exit_status.h"
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
};

Status prepare(const Arguments& arguments) {
  const auto fleet = FleetId::from_hex(arguments.fleet);
  if (!fleet)
    return fail(Errc::invalid, "--fleet must be the fleet's 32 hexadecimal digits: see 'rivulet trust show'");
  const auto spec = load_model_spec(arguments.spec);
  if (!spec) return std::unexpected(spec.error());
  const UtcTime created = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto model = cli::prepare_model(*spec, {*fleet, arguments.seed, arguments.epoch, created});
  if (!model) return std::unexpected(model.error());
  return cli::write_prepared(arguments.out, *model);
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

/// The specification and its data are the operator's too, so what is wrong with them is wrong usage.
int status_of(Errc code) {
  const bool data = code == Errc::corrupt || code == Errc::not_found || code == Errc::too_large;
  return data ? exit_wrong_usage : exit_status(code);
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
  app.require_subcommand(1);
  Arguments arguments;
  CLI::App* command =
      app.add_subcommand("prepare", "Make of a model specification what the release key signs");
  command->add_option("spec", arguments.spec, "The specification, a TOML file")->required();
  command
      ->add_option("--out", arguments.out, "An existing folder for release.payload, weights.f32 and the data")
      ->required();
  command->add_option("--fleet", arguments.fleet, "The id of the fleet, 32 hexadecimal digits")->required();
  command->add_option("--seed", arguments.seed, "Of the starting weights")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{0}, number_max));
  command->add_option("--epoch", arguments.epoch, "Nodes refuse versions of a lower one")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{0}, number_max));
  std::string folder;
  CLI::App* exporting = app.add_subcommand("export", "Write a prepared model as TorchScript");
  exporting->add_option("folder", folder, "With release.payload and weights.f32; gets model.pt")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    const auto unknown = app.remaining(true);
    const std::string what = unknown.empty() ? error.what() : "'" + unknown.front() + "' is not known here";
    return report(what + ": see 'rivulet-model --help'", exit_wrong_usage);
  }
  use_one_thread();
  try {
    const Status status = exporting->parsed() ? export_folder(folder) : prepare(arguments);
    return status ? 0 : report(status.error().detail, status_of(status.error().code));
  } catch (const std::exception& error) {
    return report(std::string("it failed in a way that was not foreseen: ") + error.what(), exit_failed);
  }
}
