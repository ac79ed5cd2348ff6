#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "config/exit_status.h"
#include "link/log.h"
#include "link/system_clock.h"
#include "node/daemon/api_client.h"
#include "node/daemon/folder.h"
#include "node/daemon/infer.h"
#include "node/daemon/ingest.h"
#include "node/daemon/join.h"
#include "node/daemon/profile.h"
#include "node/daemon/run.h"
#include "node/daemon/status.h"
#include "node/work/tasks.h"
#include "storage/file.h"

/// rivulet-node: the daemon of an edge device, and its commands.
namespace rivulet::node {
namespace {

int complain(const Error& error) {
  std::fprintf(stderr, "rivulet-node: %s\n", error.detail.c_str());
  return exit_status(error.code);
}

struct Arguments {
  std::string folder;
  std::string token;
  std::vector<std::string> files;
  std::string file;
  std::string format;
  std::string label;
  std::string svg;
  std::string log_level = "info";
  std::string log_format = "text";
  bool json = false;

  [[nodiscard]] Result<IngestOptions> ingest_options() const {
    IngestOptions options{.format = {}, .label = label};
    if (format.empty()) return options;
    const auto parsed = parse_format(format);
    if (!parsed) return std::unexpected(parsed.error());
    options.format = *parsed;
    return options;
  }
};

int join(const Arguments& arguments) {
  std::string token = arguments.token;
  if (token == "-") std::getline(std::cin, token);
  while (!token.empty() && (token.back() == '\r' || token.back() == ' ')) token.pop_back();
  if (token.empty() && arguments.token == "-") {
    return complain({Errc::invalid,
                     "standard input has no token: give it what 'rivulet token create' prints, in one line"});
  }
  const auto joined = join_fleet(token, arguments.folder);
  if (!joined) return complain(joined.error());
  std::printf("joined %s as %s\n", joined->fleet_name.c_str(), joined->node.c_str());
  return 0;
}

int run(const Arguments& arguments) {
  const auto format = parse_log_format(arguments.log_format);
  if (!format) return complain(format.error());
  if (const auto status = setup_log(arguments.log_level, *format); !status) return complain(status.error());
  const auto status = run_daemon(arguments.folder);
  return status ? 0 : complain(status.error());
}

/// @return the exit status: 0 only if all that was printed has gone out.
int finish_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return 0;
  return complain({Errc::storage_full, "cannot write to standard output: is the disk full?"});
}

/// The daemon's samples, or the folder's own.
struct SampleTarget {
  std::optional<ApiClient> client;
  std::unique_ptr<NodeFolder> folder;
  UtcTime signed_time{};

  Status open(const std::string& path) {
    auto found = ApiClient::find(path);
    if (!found) return std::unexpected(found.error());
    client = std::move(*found);
    if (client) return {};
    auto opened = open_node_folder(path);
    if (!opened) return std::unexpected(opened.error());
    folder = std::move(*opened);
    const auto state = recover_agent(*folder);
    if (!state) return std::unexpected(state.error());
    signed_time = state->trust.signed_time;
    if (!state->serving.active) return {};
    // A model that cannot be read is the daemon's trouble; samples come in all the same.
    const auto release = load_release(*folder->blobs, state->serving.active->manifest.release_content);
    return release ? folder->samples->set_fit(fit_of(*release)) : Status();
  }

  Result<AddOutcome> add(std::span<const NewSample> samples) {
    if (client) return client->add_samples(samples);
    return folder->samples->add(samples, std::max(system_now().utc, signed_time));
  }
  Status finish() { return folder ? folder->samples->sync() : Status(); }
};

std::string name_of_input(const std::string& file) { return file == "-" ? "standard input:" : file + ":"; }

int ingest(const Arguments& arguments) {
  const auto options = arguments.ingest_options();
  if (!options) return complain(options.error());
  for (const std::string& file : arguments.files) {
    if (const auto there = check_input(file); !there) return complain(there.error());
  }
  SampleTarget target;
  if (const auto status = target.open(arguments.folder); !status) return complain(status.error());
  IngestReport report;
  const SampleSink sink = [&](std::span<const NewSample> samples) { return target.add(samples); };
  Status status;
  std::string empty;
  for (const std::string& file : arguments.files) {
    const auto before = report.read();
    if (status = ingest_file(file, *options, sink, report); !status) break;
    if (report.read() == before && empty.empty()) empty = file;
  }
  if (const auto finished = target.finish(); status && !finished) status = finished;
  if (status || report.read() > 0)
    std::fputs((arguments.json ? to_json(report) + "\n" : to_text(report)).c_str(), stdout);
  if (!status) return complain(status.error());
  if (!empty.empty()) return complain({Errc::refused, name_of_input(empty) + " holds no sample"});
  const bool all_refused = report.refused > 0 && report.stored + report.duplicate == 0;
  return all_refused
             ? complain({Errc::refused, "no sample was in order: the reasons stand on standard output"})
             : finish_output();
}

int infer(const Arguments& arguments) {
  const auto options = arguments.ingest_options();
  if (!options) return complain(options.error());
  const auto print = [](const std::string& line) { std::printf("%s\n", line.c_str()); };
  const auto report = infer_file(arguments.folder, arguments.file, *options, print);
  if (!report) return complain(report.error());
  if (report->answered > 0) return finish_output();
  if (report->wrong == 0)
    return complain({Errc::refused, name_of_input(arguments.file) + " holds no sample"});
  return complain({Errc::refused, "no sample was answered: the reasons stand on standard output"});
}

int status(const Arguments& arguments) {
  const auto document = node_status(arguments.folder);
  if (!document) return complain(document.error());
  const std::string text = arguments.json ? *document + "\n" : status_text(*document);
  std::fputs(text.c_str(), stdout);
  return finish_output();
}

int profile(const Arguments& arguments) {
  const auto report = profile_folder(arguments.folder);
  if (!report) return complain(report.error());
  if (!arguments.svg.empty()) {
    const Status written = write_file_durably(arguments.svg, bytes_of(to_svg(*report)), 0644);
    if (!written) return complain(written.error());
  }
  std::fputs((arguments.json ? to_json(*report) + "\n" : to_table(*report)).c_str(), stdout);
  return finish_output();
}

int run_program(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"The edge node of a Rivulet fleet: stores samples, answers by the fleet's model, trains it."};
  app.name("rivulet-node");
  app.set_version_flag("--version", software_name);
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* help) {
    CLI::App* command = app.add_subcommand(name, help);
    command->add_option("--dir", arguments.folder, "the node's folder")->required();
    return command;
  };

  CLI::App* join_command = add("join", "make a folder a node of a fleet");
  join_command
      ->add_option("TOKEN", arguments.token,
                   "what 'rivulet token create' printed; - reads it from standard input")
      ->required();
  CLI::App* run_command = add("run", "the daemon");
  run_command->add_option("--log-level", arguments.log_level, "debug, info, warning or error");
  run_command->add_option("--log-format", arguments.log_format, "text or json");
  CLI::App* ingest_command = add("ingest", "store the samples of files");
  ingest_command->add_option("FILE", arguments.files, "files; - is standard input")->required();
  ingest_command->add_flag("--json", arguments.json, "print one JSON document");
  CLI::App* infer_command = add("infer", "answer the samples of a file, one line of JSON each");
  infer_command->add_option("FILE", arguments.file, "the file; - is standard input")->required();
  for (CLI::App* command : {ingest_command, infer_command}) {
    command->add_option("--format", arguments.format, "csv or idx; by the file's name if absent");
    command->add_option("--label", arguments.label,
                        "CSV: the label's column (name or number from 1); IDX: the file of labels");
  }
  CLI::App* status_command = add("status", "what the node does and holds");
  status_command->add_flag("--json", arguments.json, "print one JSON document");
  CLI::App* profile_command =
      add("profile", "what the served version costs on this machine; stop the daemon first");
  profile_command->add_flag("--json", arguments.json, "print one JSON document");
  profile_command->add_option("--svg", arguments.svg, "write a bar chart to this file too");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    // A word that is no subcommand is the better news than that one is missing.
    const auto unknown = app.remaining(true);
    const std::string what = unknown.empty() ? error.what() : "'" + unknown.front() + "' is not known here";
    return complain({Errc::invalid, what + ": see 'rivulet-node --help'"});
  }
  // Else what a library of ours has to say would stand among the output. `run` sets its own.
  if (const auto status = setup_log("warning", LogFormat::text); !status) return complain(status.error());
  if (join_command->parsed()) return join(arguments);
  if (run_command->parsed()) return run(arguments);
  if (ingest_command->parsed()) return ingest(arguments);
  if (infer_command->parsed()) return infer(arguments);
  if (profile_command->parsed()) return profile(arguments);
  return status(arguments);
}

}  // namespace
}  // namespace rivulet::node

int main(int argc, char** argv) {
  try {
    return rivulet::node::run_program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rivulet-node: %s\n", error.what());
    return rivulet::exit_failed;
  }
}
