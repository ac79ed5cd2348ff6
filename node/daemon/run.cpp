#include "node/daemon/run.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "link/log.h"
#include "link/system_clock.h"
#include "models/runtime/runtime.h"
#include "node/core/agent.h"
#include "node/daemon/agent_driver.h"
#include "node/daemon/api.h"
#include "node/daemon/folder.h"
#include "node/daemon/inference.h"
#include "node/daemon/metrics.h"
#include "storage/crash_point.h"

namespace rivulet::node {
namespace {

constexpr unsigned end_seconds_max = 9;
constexpr auto part_age_max = std::chrono::days(7);

/// D/run.json, while the object lives.
class RunFile {
 public:
  static Result<RunFile> write(const FolderPaths& paths, const std::string& api) {
    const std::string text = nlohmann::json{{"pid", ::getpid()}, {"api", api}}.dump() + "\n";
    if (const auto status = write_file_durably(paths.run_file, bytes_of(text)); !status) {
      return std::unexpected(status.error());
    }
    return RunFile(paths.run_file);
  }
  RunFile(RunFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  RunFile& operator=(RunFile&&) = delete;
  ~RunFile() {
    std::error_code ignored;  // The folder's lock tells who runs; the file only says where.
    if (!path_.empty()) std::filesystem::remove(path_, ignored);
  }

 private:
  explicit RunFile(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

/// Work that cannot be interrupted must not keep the process: what was promised is on disk already.
void end_soon(bool disk_failed) {
  ::signal(SIGALRM, disk_failed ? [](int) { ::_exit(1); } : [](int) { ::_exit(0); });
  ::alarm(end_seconds_max);
}

Status sweep_blobs(NodeFolder& folder, const State& state) {
  const auto referenced = referenced_contents(state);
  const auto swept =
      sweep(*folder.blobs, {referenced.begin(), referenced.end()}, system_now().utc - part_age_max);
  if (!swept) return std::unexpected(swept.error());
  if (swept->blobs + swept->parts > 0) {
    log_event(LogLevel::info, "swept",
              {{"blobs", std::to_string(swept->blobs)},
               {"parts", std::to_string(swept->parts)},
               {"bytes", std::to_string(swept->bytes)}});
  }
  return {};
}

}  // namespace

Status run_daemon(const std::filesystem::path& path) {
  if (const auto status = check_crash_point_env(); !status) return status;
  ::signal(SIGPIPE, SIG_IGN);
  use_one_thread();
  if (const auto blas = check_blas(); !blas)
    log_event(LogLevel::warning, "slow_blas", {{"detail", blas.error().detail}});

  const auto folder = open_node_folder(path, OnFullDisk::use_ballast);
  if (!folder) return std::unexpected(folder.error());
  if ((*folder)->ballast_used) {
    log_event(LogLevel::warning, "ballast_used",
              {{"detail", "the disk is full, and this start took the room that was kept for it: make room"}});
  }
  auto token = read_token((*folder)->paths);
  if (!token) return std::unexpected(token.error());
  auto state = recover_agent(**folder);
  if (!state) return std::unexpected(state.error());
  if (const auto status = sweep_blobs(**folder, *state); !status) return status;

  Metrics metrics;
  Inference inference(metrics);
  auto driver = std::make_unique<AgentDriver>(**folder, std::move(*state), inference, metrics);
  const NodeConfig& config = (*folder)->config;
  const auto api = Api::start({.inference = inference,
                               .samples = *(*folder)->samples,
                               .metrics = metrics,
                               .token = std::move(*token),
                               .status = [&driver] { return driver->status(); },
                               .on_storage = [&driver](const Error& error) { driver->fail_with(error); },
                               .utc = [&driver] { return driver->utc(); }},
                              {.listen = config.api,
                               .threads = config.api_threads,
                               .payload_bytes_max = config.payload_bytes_max,
                               .busy_poll_max = config.busy_poll_max});
  if (!api) {
    return fail(api.error().code, api.error().detail + ": free it, or set another listen under [api] in " +
                                      (*folder)->paths.config_file.string());
  }
  const auto run_file = RunFile::write((*folder)->paths, (*api)->address());
  if (!run_file) {
    // It answers all the same: by its port, if node.toml names one.
    log_event(LogLevel::warning, "no_run_file", {{"detail", run_file.error().detail}});
  }
  log_event(LogLevel::info, "started",
            {{"node", (*folder)->key.public_key().hex()},
             {"coordinator", to_string(config.coordinator)},
             {"api", (*api)->address()}});
  std::printf("%s\n", nlohmann::json{{"ready", true}, {"api", (*api)->address()}}.dump().c_str());
  std::fflush(stdout);

  Status status = driver->run(end_soon);
  (*api)->stop();
  driver.reset();  // Its threads may be about something still.
  const auto synced = (*folder)->samples->sync();
  log_event(LogLevel::info, "stopped");
  if (!status) return status;
  return synced;
}

}  // namespace rivulet::node
