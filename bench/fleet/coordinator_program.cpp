#include "bench/fleet/coordinator_program.h"

#include <signal.h>
#include <spdlog/fmt/fmt.h>

#include "storage/file.h"

namespace rivulet::bench {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

constexpr auto look_interval = 5ms;
constexpr auto stop_patience = 15s;
constexpr std::uint64_t text_bytes_max = 64 << 20;

std::string text_in(const std::filesystem::path& file) {
  const auto bytes = read_file(file, text_bytes_max);
  return bytes ? std::string(text_of(*bytes)) : std::string();
}

/// Deadlines are generous, since a slow machine is no fault: what is measured is how long things take.
std::string settings_text(const CoordinatorProgram::Settings& settings) {
  return fmt::format(
      "[coordinator]\n"
      "listen = \"127.0.0.1:0\"\n"
      "admin = \"127.0.0.1:0\"\n"
      "[round]\n"
      "cohort = {0}\n"
      "cohort_min = {0}\n"
      "updates_min = 1\n"
      "over_selection = 1.0\n"
      "deadline_s = 7200\n"
      "[delta]\n"
      "codec = \"int8\"\n"
      "[validation]\n"
      "mode = \"none\"\n"
      "[limits]\n"
      "blob_quota_mib = {1}\n",
      settings.cohort, settings.blob_quota_mib);
}

}  // namespace

std::string CoordinatorProgram::last_words(const std::filesystem::path& log) const {
  std::string text = text_in(log);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const std::size_t line = text.rfind('\n');
  return line == std::string::npos ? text : text.substr(line + 1);
}

asio::awaitable<Status> CoordinatorProgram::wait_until(std::function<bool()> done, std::string what) {
  while (!done()) {
    if (daemon_ && daemon_->exit_status()) {
      co_return fail(Errc::disconnected,
                     fmt::format("the coordinator ended with status {} before {}: {}",
                                 *daemon_->exit_status(), what, last_words(folder_ / "coordinator.log")));
    }
    if (std::chrono::steady_clock::now() >= deadline_)
      co_return fail(Errc::timeout, "the time is up before " + what);
    auto moment = sleep_until(deadline_in(look_interval));
    const Status slept = co_await std::move(moment);
    if (!slept) co_return slept;
  }
  co_return Status{};
}

asio::awaitable<Result<std::string>> CoordinatorProgram::run(std::vector<std::string> argv) {
  const std::filesystem::path output = folder_ / "command.out";
  const std::filesystem::path log = folder_ / "command.log";
  auto process = Process::start(argv, output, log);
  if (!process) co_return std::unexpected(process.error());
  auto waiting = wait_until([&] { return (*process)->exit_status().has_value(); }, argv[0] + " has ended");
  const Status waited = co_await std::move(waiting);
  if (!waited) co_return std::unexpected(waited.error());
  const int status = *(*process)->exit_status();
  if (status != 0) {
    std::string line;
    for (const std::string& argument : argv) line += argument + " ";
    co_return fail(Errc::internal, fmt::format("{}ended with status {}: {}", line, status, last_words(log)));
  }
  std::string text = text_in(output);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  co_return text;
}

asio::awaitable<Result<std::string>> CoordinatorProgram::command(std::vector<std::string> arguments) {
  std::vector<std::string> argv = {programs_ / "rivulet", "--dir", home()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run(std::move(argv));
}

asio::awaitable<Status> CoordinatorProgram::start(Settings settings) {
  const std::string program = programs_ / "rivulet-coordinator";
  std::vector<std::string> init = {program, "init", "--dir", home(), "--fleet", "bench"};
  auto founding = run(std::move(init));
  const auto founded = co_await std::move(founding);
  if (!founded) co_return std::unexpected(founded.error());
  const std::string text = settings_text(settings);
  if (Status status = write_file_durably(home() / "coordinator.toml", bytes_of(text), 0644); !status)
    co_return status;
  const std::filesystem::path output = folder_ / "coordinator.out";
  const std::vector<std::string> argv = {program, "run", "--dir", home(), "--log-level", "warning"};
  auto daemon = Process::start(argv, output, folder_ / "coordinator.log");
  if (!daemon) co_return std::unexpected(daemon.error());
  daemon_ = std::move(*daemon);
  auto waiting = wait_until([&] { return text_in(output).ends_with('\n'); }, "it is ready");
  co_return co_await std::move(waiting);
}

asio::awaitable<Status> CoordinatorProgram::stop() {
  if (!daemon_) co_return Status{};
  daemon_->signal(SIGTERM);
  const Deadline patience = deadline_in(stop_patience);
  while (!daemon_->exit_status() && std::chrono::steady_clock::now() < patience) {
    auto moment = sleep_until(deadline_in(look_interval));
    const Status slept = co_await std::move(moment);
    if (!slept) break;
  }
  const auto status = daemon_->exit_status();
  if (status == 0) co_return Status{};
  if (!status) co_return fail(Errc::timeout, "the coordinator did not end by SIGTERM in time");
  co_return fail(Errc::internal, fmt::format("the coordinator ended with status {}: {}", *status,
                                             last_words(folder_ / "coordinator.log")));
}

Result<ProcessUse> CoordinatorProgram::take_use() {
  if (!daemon_) return fail(Errc::not_found, "the coordinator does not run");
  auto use = use_of(daemon_->pid());
  forget_peak(daemon_->pid());
  return use;
}

}  // namespace rivulet::bench
