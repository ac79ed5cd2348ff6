// rivulet: the operator's command line against a running coordinator.
#include <signal.h>
#include <spdlog/fmt/fmt.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <limits>
#include <span>
#include <string>

#include "cli/commands.h"
#include "cli/text.h"
#include "config/exit_status.h"
#include "config/software.h"

using namespace rivulet;
using namespace rivulet::cli;

namespace {

constexpr std::int64_t number_max = std::numeric_limits<std::int64_t>::max();

/// All that can stand on the command line, and what is to be done with it.
struct Arguments {
  ConnectionOptions connection;
  std::string dir;
  std::string token_file;
  bool json = false;
  std::function<Status()> run;

  std::string expires;
  std::string key_file;
  std::string new_key_file;
  std::string key;
  std::uint32_t count = 1;
  std::vector<std::string> tags;
  bool no_tags = false;
  std::string spec;
  std::uint64_t seed = 1;
  std::optional<std::uint64_t> epoch;
  std::uint64_t number = 0;
  std::string format = "npz";
  std::string out;
  std::string svg;
  bool wait = false;
  std::optional<std::uint64_t> round;
  bool verify = false;
  std::string file;
  std::string head;
  DistillCommand distill;
  PruneCommand prune;
};

/// A subcommand that does something.
CLI::App* add(CLI::App& parent, const char* name, const char* help, Arguments& arguments,
              std::function<Status()> run) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->callback([&arguments, run = std::move(run)] { arguments.run = run; });
  return command;
}

CLI::App* add_group(CLI::App& app, const char* name, const char* help) {
  CLI::App* group = app.add_subcommand(name, help);
  group->require_subcommand(1);
  return group;
}

void add_json(CLI::App* command, Arguments& arguments) {
  command->add_flag("--json", arguments.json, "Print one JSON document");
}

void add_fleet_commands(CLI::App& app, Arguments& a) {
  CLI::App* token = add_group(app, "token", "Tokens with which nodes join");
  CLI::App* create = add(*token, "create", "Make a join token and print it", a, [&a] {
    return create_token(a.connection, a.expires.empty() ? "1h" : a.expires, a.count);
  });
  create->add_option("--expires", a.expires, "Until then it can be used, such as 30m, 1h or 7d; 1h without");
  create->add_option("--uses", a.count, "So many nodes may join with it; 1 without")
      ->check(CLI::Range(1, 1'000'000));
  add_json(add(*token, "list", "List all join tokens by their ids, which are no secrets", a,
               [&a] { return list_tokens(a.connection, a.json); }),
           a);
  CLI::App* revoke = add(*token, "revoke", "Let nobody join with a token any more; who did stays", a,
                         [&a] { return revoke_token(a.connection, a.key); });
  revoke->add_option("ID", a.key, "A unique prefix of the token's id, 8 digits or more")->required();

  add_json(add(app, "nodes", "List the fleet's nodes", a, [&a] { return list_nodes(a.connection, a.json); }),
           a);

  CLI::App* node = add_group(app, "node", "Change one node; KEY is a unique prefix of 8 digits or more");
  CLI::App* tag = add(*node, "tag", "Replace the node's tags", a, [&a]() -> Status {
    if (a.tags.empty() != a.no_tags) {
      return fail(Errc::invalid, "node tag takes the new tags, or --none to clear them: give one of the two");
    }
    return tag_node(a.connection, a.key, a.tags);
  });
  tag->add_option("KEY", a.key, "The node's key")->required();
  tag->add_option("TAG", a.tags, "The new tags");
  tag->add_flag("--none", a.no_tags, "Clear the tags");
  struct Change {
    const char* name;
    const char* help;
  };
  for (const Change& change : {Change{"quarantine", "Give the node no tasks until it is released"},
                               Change{"release", "End a node's quarantine"},
                               Change{"revoke", "Turn the node away for good, also in mid-round"}}) {
    CLI::App* command = add(*node, change.name, change.help, a,
                            [&a, action = change.name] { return change_node(a.connection, a.key, action); });
    command->add_option("KEY", a.key, "The node's key")->required();
  }
  add_json(add(app, "status", "Show how the fleet is", a, [&a] { return show_status(a.connection, a.json); }),
           a);
}

void add_student_commands(CLI::App& model, Arguments& a) {
  CLI::App* distilling =
      add(model, "distill", "Train a student of a version and publish it as a new release", a, [&a] {
        a.distill.json = a.json;
        return distill_model(a.connection, a.distill);
      });
  DistillOptions& options = a.distill.options;
  distilling->add_option("SPEC", a.distill.spec, "The student's specification, a TOML file")->required();
  distilling->add_option("--teacher", a.distill.teacher, "The number of the version that it learns of")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, number_max));
  distilling->add_option("--data", options.data, "Samples to learn on, CSV or IDX")->required();
  distilling->add_option("--label", options.label,
                         "Their label: of CSV a column, of IDX a file; without, the teacher alone decides");
  distilling->add_option(
      "--holdout", options.holdout,
      "Samples on which both are compared; without, a tenth of the data, which is not learnt");
  distilling->add_option("--temperature", options.temperature, "Softens the teacher's answers; 4 without");
  distilling->add_option("--soft-weight", options.soft_weight,
                         "How much the teacher counts, 0 to 1, the labels the rest; 0.7 without");
  distilling->add_option("--epochs", options.epochs, "Passes over the data; 10 without")
      ->check(CLI::Range(1, 1'000'000));
  distilling->add_option("--batch-size", options.batch_size, "Samples a step; 32 without")
      ->check(CLI::Range(1, 1'000'000));
  distilling->add_option("--learning-rate", options.learning_rate, "Of Adam; 0.001 without");
  distilling
      ->add_option("--seed", a.distill.seed, "Of the starting weights, the split and the order; 1 without")
      ->check(CLI::Range(std::int64_t{0}, number_max));
  distilling
      ->add_option("--release-key", a.distill.release_key, "The release key, which init wrote to D/offline")
      ->required();
  add_json(distilling, a);

  CLI::App* pruning =
      add(model, "prune", "Take channels from a version and publish the rest as a new release", a, [&a] {
        a.prune.json = a.json;
        return prune_model(a.connection, a.prune);
      });
  pruning->add_option("VERSION", a.prune.version, "Its number")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, number_max));
  pruning->add_option("--fraction", a.prune.fraction,
                      "Of the units of each hidden layer that go; 0.5 without");
  pruning->add_flag("--code", a.prune.code, "Of an autoencoder: also units of the code");
  pruning->add_option("--release-key", a.prune.release_key, "The release key, which init wrote to D/offline")
      ->required();
  add_json(pruning, a);
}

void add_model_commands(CLI::App& app, Arguments& a) {
  CLI::App* model = add_group(app, "model", "Models and their versions");
  CLI::App* importing =
      add(*model, "import", "Sign a model specification and publish its first version", a,
          [&a] { return import_model(a.connection, {a.spec, a.key_file, a.seed, a.epoch, a.json}); });
  importing->add_option("SPEC", a.spec, "The specification, a TOML file")->required();
  importing->add_option("--release-key", a.key_file, "The release key, which init wrote to D/offline")
      ->required();
  importing->add_option("--seed", a.seed, "Of the starting weights; 1 without")
      ->check(CLI::Range(std::int64_t{0}, number_max));
  importing->add_option("--epoch", a.epoch, "Raise it, and nodes refuse every older version for good")
      ->check(CLI::Range(std::int64_t{0}, number_max));
  add_json(importing, a);

  add_json(add(*model, "list", "List all versions", a, [&a] { return list_models(a.connection, a.json); }),
           a);
  CLI::App* show =
      add(*model, "show", "Show one version", a, [&a] { return show_model(a.connection, a.number, a.json); });
  show->add_option("VERSION", a.number, "Its number")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, number_max));
  add_json(show, a);

  CLI::App* exporting = add(*model, "export", "Write a version's weights to a file", a,
                            [&a] { return export_model(a.connection, a.number, a.format, a.out); });
  exporting->add_option("VERSION", a.number, "Its number")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, number_max));
  exporting->add_option("--format", a.format,
                        "npz (an array a tensor, and the preprocessing), safetensors, or torchscript");
  exporting->add_option("--out", a.out, "The file, which is replaced")->required();
  CLI::App* profiling =
      add(*model, "profile", "Time a version's variants on this machine, by every engine of its LibTorch", a,
          [&a] { return profile_model(a.connection, a.number, a.json, a.svg); });
  profiling->add_option("VERSION", a.number, "Its number")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, number_max));
  profiling->add_option("--svg", a.svg, "Write a bar chart to this file too");
  add_json(profiling, a);
  add_student_commands(*model, a);
}

void add_round_commands(CLI::App& app, Arguments& a) {
  CLI::App* round = add_group(app, "round", "Rounds of training");
  CLI::App* start = add(*round, "start", "Schedule rounds", a,
                        [&a] { return start_rounds(a.connection, a.count, a.wait, a.json); });
  start->add_option("--count", a.count, "So many; 1 without")->check(CLI::Range(1, 1'000'000));
  start->add_flag("--wait", a.wait, "Print each when it ends; status 1 if one publishes no version");
  add_json(start, a);
  CLI::App* status =
      add(*round, "status", "Show one round", a, [&a] { return show_round(a.connection, a.round, a.json); });
  status->add_option("ROUND", a.round, "Its number; without, the running or last one")
      ->check(CLI::Range(std::int64_t{1}, number_max));
  add_json(status, a);
  add_json(add(*round, "list", "List the rounds", a, [&a] { return list_rounds(a.connection, a.json); }), a);
}

void add_trust_commands(CLI::App& app, Arguments& a) {
  const auto lifetime = [&a] { return a.expires.empty() ? std::string("365d") : a.expires; };
  CLI::App* trust = add_group(app, "trust", "Which keys speak for the fleet");
  CLI::App* show = add(*trust, "show", "Show the trust document", a,
                       [&a] { return show_trust(a.connection, a.key_file, a.json); });
  show->add_option("--root-key", a.key_file, "Check that this key signed it");
  add_json(show, a);
  CLI::App* renew = add(*trust, "renew", "Sign the trust document anew, with a new expiry", a,
                        [&a, lifetime] { return renew_trust(a.connection, a.key_file, lifetime()); });
  CLI::App* rotate =
      add(*trust, "rotate", "Give the fleet a new root key, signed by the old one and itself", a,
          [&a, lifetime] { return rotate_trust(a.connection, a.key_file, a.new_key_file, lifetime()); });
  for (CLI::App* command : {renew, rotate}) {
    command->add_option("--root-key", a.key_file, "The root key, which init wrote to D/offline")->required();
    command->add_option("--expires", a.expires, "Valid for that long, such as 30d; 365d without");
  }
  rotate->add_option("--new-root-key", a.new_key_file, "The file of the new key; made if it is not there")
      ->required();
}

void add_audit_command(CLI::App& app, Arguments& a) {
  CLI::App* audit = add(app, "audit", "Print the audit log as JSON lines", a,
                        [&a] { return show_audit(a.connection, {a.verify, a.file, a.head}); });
  audit->add_flag("--verify", a.verify, "Check the chain of hashes instead; name the first wrong entry");
  audit->add_option("--file", a.file, "Read saved entries, not a coordinator's; - is standard input");
  audit->add_option(
      "--head", a.head,
      "With --verify: the hash that one of the entries must have, such as a node's anchored head");
}

std::string_view as_view(const char* word) { return word; }

int report(std::string detail, int status) {
  std::ranges::replace(detail, '\n', ' ');
  fmt::print(stderr, "rivulet: {}\n", printable(detail));
  return status;
}

/// "rivulet model import", as far as the command line was understood: up to the word that was not.
std::string command_of(const CLI::App& app, std::span<char* const> words, const std::string& unknown) {
  const auto chosen = app.get_subcommands();
  if (chosen.empty()) return app.get_name();
  const auto end = unknown.empty() ? words.end() : std::ranges::find(words, unknown, as_view);
  const auto at = std::ranges::find(words.begin(), end, chosen.front()->get_name(), as_view);
  if (at == end && !unknown.empty()) return app.get_name();
  return app.get_name() + " " + command_of(*chosen.front(), words, unknown);
}

int run(const Arguments& arguments) {
  try {
    const Status status = arguments.run();
    if (!status) return report(status.error().detail, exit_status(status.error().code));
  } catch (const std::exception& error) {
    // What the coordinator answers is JSON, but perhaps not with the keys that we know.
    return report(std::string("the coordinator's answer was not understood: is that its admin address? ") +
                      error.what(),
                  exit_failed);
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    return report("cannot write to standard output: is the disk full?", exit_failed);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  // A coordinator that hangs up in mid-sentence is an error to tell, not a reason to die.
  ::signal(SIGPIPE, SIG_IGN);
  CLI::App app("Operates a Rivulet coordinator.", "rivulet");
  app.fallthrough();
  app.set_version_flag("--version", software_name);
  app.require_subcommand(1);
  Arguments arguments;
  app.add_option("--dir", arguments.dir, "The folder of a coordinator that runs on this machine");
  app.add_option("--admin", arguments.connection.admin,
                 "Its admin API, http://HOST:PORT; http://127.0.0.1:7480 without");
  app.add_option("--token-file", arguments.token_file,
                 "The admin token; else RIVULET_ADMIN_TOKEN or D/admin.token");
  add_fleet_commands(app, arguments);
  add_model_commands(app, arguments);
  add_round_commands(app, arguments);
  add_trust_commands(app, arguments);
  add_audit_command(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    // A word that is no subcommand is the better news than that one is missing.
    const auto unknown = app.remaining(true);
    const std::string what =
        unknown.empty() ? error.what() : fmt::format("'{}' is not known here", unknown.front());
    const std::span<char* const> words(argv, static_cast<std::size_t>(argc));
    const std::string command = command_of(app, words, unknown.empty() ? std::string() : unknown.front());
    return report(fmt::format("{}: see '{} --help'", what, command), exit_wrong_usage);
  }
  arguments.connection.folder = arguments.dir;
  arguments.connection.token_file = arguments.token_file;
  return run(arguments);
}
