#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "config/exit_status.h"
#include "config/software.h"
#include "coordinator/server/init.h"
#include "coordinator/server/open_files.h"
#include "coordinator/server/server.h"
#include "coordinator/server/torch_runner.h"
#include "link/log.h"
#include "link/system_clock.h"
#include "models/runtime/runtime.h"
#include "storage/crash_point.h"

namespace {

using namespace rivulet;

int complain(const Error& error, int status) {
  std::fprintf(stderr, "rivulet-coordinator: %s\n", error.detail.c_str());
  return status;
}

/// @return the exit status: that of success only if all that was printed has gone out.
int finish_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_done;
  return complain({Errc::storage_full, "cannot write to standard output: is the disk full?"}, exit_failed);
}

struct InitArguments {
  std::string folder;
  std::string fleet = "rivulet";
  std::string listen = "127.0.0.1:7443";
  std::string admin = "127.0.0.1:7480";
};

int init(const InitArguments& arguments) {
  const auto listen = parse_endpoint(arguments.listen);
  if (!listen) return complain({Errc::invalid, "--listen: " + listen.error().detail}, exit_wrong_usage);
  const auto admin = parse_endpoint(arguments.admin);
  if (!admin) return complain({Errc::invalid, "--admin: " + admin.error().detail}, exit_wrong_usage);
  const Status status =
      coordinator::init_folder({arguments.folder, arguments.fleet, *listen, *admin}, system_now());
  if (!status) {
    // A conflict is a folder that holds something.
    const bool usage = status.error().code == Errc::conflict;
    return complain(status.error(), usage ? exit_wrong_usage : exit_status(status.error().code));
  }
  std::printf(
      "Founded the fleet \"%s\" in %s.\n"
      "Move %s/offline to another machine now: whoever holds root.key owns the fleet, and\n"
      "release.key says which models it runs. The coordinator needs neither.\n"
      "Next: rivulet-coordinator run --dir %s\n",
      arguments.fleet.c_str(), arguments.folder.c_str(), arguments.folder.c_str(), arguments.folder.c_str());
  return finish_output();
}

struct RunArguments {
  std::string folder;
  std::string log_level = "info";
  std::string log_format = "text";
};

int run(const RunArguments& arguments) {
  if (const Status status = check_crash_point_env(); !status)
    return complain(status.error(), exit_wrong_usage);
  const auto format = parse_log_format(arguments.log_format);
  if (!format) return complain({Errc::invalid, "--log-format: " + format.error().detail}, exit_wrong_usage);
  if (const Status status = setup_log(arguments.log_level, *format); !status) {
    return complain({Errc::invalid, "--log-level: " + status.error().detail}, exit_wrong_usage);
  }
  const std::filesystem::path folder = arguments.folder;
  const auto config = coordinator::load_config(folder / "coordinator.toml");
  if (!config && config.error().code == Errc::not_found) {
    return complain(
        {Errc::not_found, folder.string() + " is no coordinator's folder: run `rivulet-coordinator init`"},
        exit_wrong_usage);
  }
  if (!config) return complain(config.error(), exit_status(config.error().code));
  // What is as large as a model goes back to the system when it is freed. By default glibc raises this
  // threshold with every large block, and then keeps models' worth of memory for good.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
  use_one_thread();
  const std::uint64_t files = coordinator::raise_open_files();
  if (const Status status = check_blas(); !status)
    log_event(LogLevel::warning, "slow_blas", {{"detail", status.error().detail}});

  auto server = coordinator::Server::open({.folder = folder,
                                           .config = *config,
                                           .runner = coordinator::make_torch_runner(),
                                           .handle_signals = true});
  if (!server) return complain(server.error(), exit_status(server.error().code));
  const std::size_t connections = coordinator::connections_allowed(files, config->server.admin_threads);
  log_event(LogLevel::info, "open_files",
            {{"limit", std::to_string(files)}, {"connections_max", std::to_string(connections)}});
  int told = exit_done;
  const Status status = (*server)->run([&](const std::string& line) {
    std::printf("%s\n", line.c_str());
    told = finish_output();
    // Whoever started it waits for that line.
    if (told != exit_done) (*server)->stop();
  });
  const int code = status ? told : complain(status.error(), exit_failed);
  // An aggregation that goes on is not waited for: nothing of it was promised, and the next start asks again.
  if (!(*server)->quiet()) std::_Exit(code);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "The coordinator of a Rivulet fleet: selects nodes, aggregates their updates, publishes models.");
  app.set_version_flag("--version", software_name);
  app.require_subcommand(1);
  InitArguments init_arguments;
  CLI::App* init_command =
      app.add_subcommand("init", "Found a fleet: keys, store and settings in a new folder.");
  init_command->add_option("--dir", init_arguments.folder, "The folder, new or empty")->required();
  init_command->add_option("--fleet", init_arguments.fleet, "The fleet's name")->capture_default_str();
  init_command->add_option("--listen", init_arguments.listen, "HOST:PORT for nodes")->capture_default_str();
  init_command->add_option("--admin", init_arguments.admin, "HOST:PORT of the admin API")
      ->capture_default_str();
  RunArguments run_arguments;
  CLI::App* run_command = app.add_subcommand("run", "Serve the fleet until SIGTERM.");
  run_command->add_option("--dir", run_arguments.folder, "The folder that init made")->required();
  run_command->add_option("--log-level", run_arguments.log_level, "debug, info, warning or error")
      ->capture_default_str();
  run_command->add_option("--log-format", run_arguments.log_format, "text or json")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    // A word that is no subcommand is the better news than that one is missing.
    const auto unknown = app.remaining(true);
    const std::string what = unknown.empty() ? error.what() : "'" + unknown.front() + "' is not known here";
    return complain({Errc::invalid, what + ": see 'rivulet-coordinator --help'"}, exit_wrong_usage);
  }
  return *init_command ? init(init_arguments) : run(run_arguments);
}
