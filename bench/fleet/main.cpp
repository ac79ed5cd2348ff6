// A fleet of synthetic nodes on the real protocol (TLS, signatures, resumed transfers; no LibTorch)
// against the real rivulet-coordinator: how many updates a second it takes, in ratio to plain writing of
// the same files, and whether its memory keeps the limit.
#include <spdlog/fmt/fmt.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "bench/fleet/coordinator_program.h"
#include "bench/fleet/fleet.h"
#include "bench/fleet/plain_writing.h"
#include "bench/fleet/report.h"
#include "storage/file.h"

namespace rivulet::bench {
namespace {

namespace fs = std::filesystem;

/// Well inside the norm bound of 10, so that nothing is clipped.
constexpr double delta_norm = 1.0;

struct Options {
  std::uint32_t nodes = 300;
  std::string parameters = "10m";
  std::string folder;
  std::string programs;
  std::uint32_t cut_every = 10;
  std::uint32_t time_limit_s = 900;
  bool keep = false;
};

struct Network {
  std::uint64_t inputs = 0;
  std::vector<std::uint64_t> hidden;
  std::uint64_t outputs = 0;
};

Network network_of(const Options& options) {
  if (options.parameters == "small") return {64, {64}, 10};
  return {784, {2048, 4096}, 10};
}

/// Weights and biases of dense layers.
std::uint64_t parameters_of(const Network& network) {
  std::uint64_t count = 0;
  std::uint64_t width = network.inputs;
  for (const std::uint64_t layer : network.hidden) count += (std::exchange(width, layer) + 1) * layer;
  return count + (width + 1) * network.outputs;
}

std::string spec_of(const Network& network) {
  std::string classes;
  for (std::uint64_t i = 0; i < network.outputs; ++i)
    classes += fmt::format("{}\"{}\"", i == 0 ? "" : ", ", i);
  return fmt::format(
      "name = \"bench\"\n"
      "[model]\narchitecture = \"mlp\"\nhidden = [{}]\n"
      "[input]\nshape = [{}]\n"
      "[task]\nkind = \"classification\"\nclasses = [{}]\n"
      "[version]\nsnapshot = \"int8\"\n",
      fmt::join(network.hidden, ", "), network.inputs, classes);
}

double own_cpu_seconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  const auto in_seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return in_seconds(use.ru_utime) + in_seconds(use.ru_stime);
}

/// A folder of the run's own, gone with it unless it is to be kept.
class WorkFolder {
 public:
  static Result<std::unique_ptr<WorkFolder>> make(const Options& options) {
    std::error_code error;
    if (!options.folder.empty()) {
      const fs::path folder = fs::absolute(options.folder);
      if (fs::exists(folder, error))
        return fail(Errc::conflict, folder.string() + " is there already: name a new folder");
      if (Status status = make_folder(folder); !status) return std::unexpected(status.error());
      return std::unique_ptr<WorkFolder>(new WorkFolder(folder, options.keep));
    }
    std::string name = (fs::temp_directory_path(error) / "rivulet-fleet-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) return fail_errno("make", name, errno);
    return std::unique_ptr<WorkFolder>(new WorkFolder(name, options.keep));
  }
  ~WorkFolder() {
    std::error_code ignored;  // Nothing can be done about what stays.
    if (!keep_) fs::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  WorkFolder(fs::path path, bool keep) : path_(std::move(path)), keep_(keep) {}

  fs::path path_;
  bool keep_;
};

class Bench {
 public:
  Bench(const Options& options, const SharedDelta& delta, std::uint64_t parameters, const fs::path& folder)
      : options_(options),
        delta_(delta),
        folder_(folder),
        program_(options.programs, folder, deadline_in(std::chrono::seconds(options.time_limit_s))),
        signals_(io_, SIGINT, SIGTERM),
        tasks_(io_.get_executor(), [](std::string_view what) {
          std::fprintf(stderr, "fleet_bench: bug: %.*s\n", static_cast<int>(what.size()), what.data());
        }) {
    findings_.nodes = options.nodes;
    findings_.parameters = parameters;
    findings_.update_bytes = delta.bytes();
  }

  /// Everything up to publication; the coordinator has ended when it returns.
  Status run() {
    signals_.async_wait([this](const std::error_code& error, int) {
      if (!error) tasks_.cancel();
    });
    tasks_.spawn(conduct());
    io_.run();
    return status_;
  }
  /// Also after an error: what was measured until then.
  [[nodiscard]] const Findings& findings() const { return findings_; }

 private:
  asio::awaitable<void> conduct() {
    auto playing = play();
    status_ = co_await std::move(playing);
    if (fleet_) {
      findings_.counts = fleet_->board().counts;
      auto closing = fleet_->close();
      co_await std::move(closing);
    }
    auto stopping = program_.stop();
    const Status stopped = co_await std::move(stopping);
    if (status_) status_ = stopped;
    signals_.cancel();
  }

  asio::awaitable<Status> play() {
    const std::uint64_t contents_mib = options_.nodes * delta_.bytes() / (1 << 20);
    auto starting = program_.start({.cohort = options_.nodes, .blob_quota_mib = 4096 + 2 * contents_mib});
    if (const Status started = co_await std::move(starting); !started) co_return started;
    sample("started");
    auto preparing = prepare();
    if (const Status prepared = co_await std::move(preparing); !prepared) co_return prepared;
    sample("model imported");
    if (const Status joined = fleet_->start(); !joined) co_return joined;
    const Board& board = fleet_->board();
    auto joining =
        program_.wait_until([&] { return board.counts.ready == options_.nodes; }, "all nodes were ready");
    if (const Status joined = co_await std::move(joining); !joined) co_return joined;
    sample("all nodes connected");

    const double cpu = own_cpu_seconds();
    auto asking = program_.command({"round", "start"});
    const auto asked = co_await std::move(asking);
    if (!asked) co_return std::unexpected(asked.error());
    auto downloading = program_.wait_until([&] { return board.all_downloaded(); }, "all nodes had the model");
    if (const Status downloaded = co_await std::move(downloading); !downloaded) co_return downloaded;
    sample("all downloaded");
    auto uploading = program_.wait_until([&] { return board.all_answered(); }, "all updates had a receipt");
    if (const Status uploaded = co_await std::move(uploading); !uploaded) co_return uploaded;
    findings_.fleet_cpu_seconds = own_cpu_seconds() - cpu;
    sample("all receipts");
    auto publishing = program_.wait_until([&] { return board.all_settled(); }, "all updates had a verdict");
    if (const Status published = co_await std::move(publishing); !published) co_return published;
    sample("published");
    co_return Status{};
  }

  /// Imports the model and makes the fleet with its token.
  asio::awaitable<Status> prepare() {
    const fs::path spec = folder_ / "model.toml";
    const std::string text = spec_of(network_of(options_));
    if (Status status = write_file_durably(spec, bytes_of(text)); !status) co_return status;
    const fs::path key = program_.home() / "offline" / "release.key";
    auto importing = program_.command({"model", "import", spec, "--release-key", key});
    const auto imported = co_await std::move(importing);
    if (!imported) co_return std::unexpected(imported.error());
    auto asking =
        program_.command({"token", "create", "--expires", "6h", "--uses", std::to_string(options_.nodes)});
    const auto text_of_token = co_await std::move(asking);
    if (!text_of_token) co_return std::unexpected(text_of_token.error());
    const auto token = parse_token(*text_of_token);
    if (!token) co_return std::unexpected(token.error());
    FleetPlan plan;
    plan.nodes = options_.nodes;
    plan.token = *token;
    plan.parameters = findings_.parameters;
    plan.cut_every = options_.cut_every;
    fleet_.emplace(std::move(plan), delta_, io_.get_executor());
    co_return Status{};
  }

  void sample(const std::string& when) {
    if (const auto use = program_.take_use()) findings_.samples.push_back({when, *use});
  }

  const Options& options_;
  const SharedDelta& delta_;
  const fs::path folder_;
  asio::io_context io_{1};
  CoordinatorProgram program_;
  asio::signal_set signals_;
  std::optional<Fleet> fleet_;
  Findings findings_;
  Status status_;
  TaskGroup tasks_;
};

/// A connection is a file; what a shell allows by default is enough for a thousand.
void allow_files(std::uint32_t nodes) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::clamp<rlim_t>(nodes + 512, limit.rlim_cur, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);  // Refused: the run says what it lacks.
}

Result<bool> run(const Options& options) {
  allow_files(options.nodes);
  const std::uint64_t parameters = parameters_of(network_of(options));
  const auto delta = SharedDelta::make(static_cast<std::size_t>(parameters), delta_norm);
  if (!delta) return std::unexpected(delta.error());
  const auto folder = WorkFolder::make(options);
  if (!folder) return std::unexpected(folder.error());
  const fs::path& path = (*folder)->path();
  Findings findings;
  Status status;
  {
    Bench bench(options, *delta, parameters, path);
    status = bench.run();
    findings = bench.findings();
  }
  if (status) {
    std::error_code ignored;  // Only to have room on the disk.
    if (!options.keep) fs::remove_all(path / "coordinator", ignored);
    const auto plain = write_plainly(*delta, options.nodes, path / "plain");
    if (!plain) return std::unexpected(plain.error());
    findings.plain_seconds = *plain;
  }
  if (!findings.samples.empty()) std::fputs(to_text(findings).c_str(), stdout);
  if (options.keep) std::printf("kept %s\n", path.c_str());
  if (!status) return std::unexpected(status.error());
  return passes(findings);
}

}  // namespace
}  // namespace rivulet::bench

int main(int argc, char** argv) {
  rivulet::bench::Options options;
  std::error_code error;
  options.programs = std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
  CLI::App app("Measures the coordinator against a fleet of synthetic nodes.");
  app.add_option("--nodes", options.nodes, "How many")->check(CLI::Range(2, 100'000))->capture_default_str();
  app.add_option("--parameters", options.parameters, "Of the model")
      ->check(CLI::IsMember({"small", "10m"}))
      ->capture_default_str();
  app.add_option("--folder", options.folder, "A new folder to work in; by default a temporary one");
  app.add_option("--programs", options.programs,
                 "The folder of rivulet-coordinator, rivulet and rivulet-model")
      ->capture_default_str();
  app.add_option("--cut-every", options.cut_every,
                 "One node of so many loses its connection in mid-transfer; 0: none")
      ->capture_default_str();
  app.add_option("--time-limit", options.time_limit_s, "Seconds after which the run is given up")
      ->capture_default_str();
  app.add_flag("--keep", options.keep, "Leave the folder");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : 2;
  }
  const auto passed = rivulet::bench::run(options);
  if (!passed) {
    std::fprintf(stderr, "fleet_bench: %s\n", passed.error().detail.c_str());
    return 1;
  }
  return *passed ? 0 : 1;
}
