#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <limits>
#include <thread>

#include "config/software.h"
#include "models/runtime/runtime.h"
#include "sim/experiment/bundled.h"
#include "sim/experiment/run.h"

namespace {

using namespace rivulet;

constexpr int done = 0;
constexpr int failed = 1;
constexpr int wrong_usage = 2;

int complain(const std::string& what, int status) {
  std::fprintf(stderr, "rivulet-sim: %s\n", what.c_str());
  return status;
}

/// @return the exit status: that of success only if all that was printed has gone out.
int finish_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return done;
  return complain("cannot write to standard output: is the disk full?", failed);
}

struct RunArguments {
  std::string experiment;
  std::string folder;
  std::string seed;
  std::vector<std::string> settings;
  bool force = false;
  std::size_t threads = std::max(1U, std::thread::hardware_concurrency());
};

Result<sim::Overrides> overrides_of(const RunArguments& arguments) {
  sim::Overrides overrides;
  for (const std::string& setting : arguments.settings) {
    const std::size_t equals = setting.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return fail(Errc::invalid, "--set " + setting + ": give it as key=value, e.g. round.count=20");
    }
    overrides.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));
  }
  if (!arguments.seed.empty()) overrides.emplace_back("seed", arguments.seed);
  return overrides;
}

double mebibytes(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

void draw_progress(const sim::RoundLine& line, std::uint32_t rounds) {
  std::fprintf(stderr,
               "round %4llu/%u  accuracy %.4f  loss %.4f  %3llu nodes  up %.2f MiB  down %.2f MiB  %.1f s\n",
               static_cast<unsigned long long>(line.round), rounds, line.accuracy, line.loss,
               static_cast<unsigned long long>(line.participants), mebibytes(line.upload_bytes),
               mebibytes(line.download_bytes), line.virtual_seconds);
}

int run(const RunArguments& arguments) {
  const auto overrides = overrides_of(arguments);
  if (!overrides) return complain(overrides.error().detail, wrong_usage);
  const auto experiment = sim::load_experiment(arguments.experiment, *overrides);
  if (!experiment) return complain(experiment.error().detail, wrong_usage);
  use_one_thread();
  if (const auto status = check_blas(); !status) complain(status.error().detail, done);
  const auto data = sim::load_fleet_data(*experiment);
  if (!data) return complain(data.error().detail, data.error().code == Errc::storage ? failed : wrong_usage);

  sim::RunOptions options{
      .folder = arguments.folder, .threads = arguments.threads, .on_round = {}, .replace = arguments.force};
  if (::isatty(STDERR_FILENO) == 1) {
    options.on_round = [&](const sim::RoundLine& line) { draw_progress(line, experiment->rounds); };
  }
  const auto summary = sim::run_experiment(*experiment, *data, options);
  if (!summary) {
    return complain(summary.error().detail, summary.error().code == Errc::invalid ? wrong_usage : failed);
  }
  std::printf(
      "%llu rounds, final accuracy %.4f, up %.2f MiB, down %.2f MiB, %.1f virtual s, %.1f s; results in %s\n",
      static_cast<unsigned long long>(summary->rounds), summary->final_accuracy,
      mebibytes(summary->upload_bytes), mebibytes(summary->download_bytes), summary->virtual_seconds,
      summary->wall_seconds, arguments.folder.c_str());
  if (!summary->stopped.empty()) return complain("the rounds stopped early: " + summary->stopped, failed);
  return finish_output();
}

int list() {
  for (const sim::Bundled& bundled : sim::bundled_experiments()) {
    const std::string_view line = bundled.text.substr(0, bundled.text.find('\n'));
    std::printf("%-14.*s %.*s\n", static_cast<int>(bundled.name.size()), bundled.name.data(),
                static_cast<int>(line.size() - 2), line.data() + 2);
  }
  return finish_output();
}

int run_program(int argc, char** argv) {
  CLI::App app{"Runs a whole Rivulet fleet in one process: the real coordinator and nodes in virtual time."};
  app.name("rivulet-sim");
  app.set_version_flag("--version", software_name);
  app.require_subcommand(1);
  RunArguments arguments;
  CLI::App* run_command = app.add_subcommand("run", "run an experiment");
  run_command
      ->add_option("FILE", arguments.experiment, "an experiment's TOML file, or the name of a bundled one")
      ->required();
  run_command
      ->add_option("--out", arguments.folder, "the folder for rounds.jsonl, summary.json and model.npz")
      ->required();
  run_command->add_flag("--force", arguments.force, "replace what another experiment left in that folder");
  run_command->add_option("--seed", arguments.seed, "replaces the experiment's seed")
      ->check(CLI::Range(std::int64_t{0}, std::numeric_limits<std::int64_t>::max()));
  run_command
      ->add_option("--set", arguments.settings,
                   "key=value, replaces a key of the experiment; may be repeated")
      ->take_all();
  run_command
      ->add_option("--threads", arguments.threads, "that compute; the results are the same with any number")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  CLI::App* list_command = app.add_subcommand("list", "the bundled experiments");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    // A word that is no subcommand is the better news than that one is missing.
    const auto unknown = app.remaining(true);
    const std::string what = unknown.empty() ? error.what() : "'" + unknown.front() + "' is not known here";
    return complain(what + ": see 'rivulet-sim --help'", wrong_usage);
  }
  return *list_command ? list() : run(arguments);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_program(argc, argv);
  } catch (const std::exception& error) {
    return complain(error.what(), failed);
  }
}
