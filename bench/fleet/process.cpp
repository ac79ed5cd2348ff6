#include "bench/fleet/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "storage/file.h"

namespace rivulet::bench {
namespace {

/// Between fork and exec: only what is safe after a fork.
[[noreturn]] void become(char* const* argv, int output, int log, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // It was too late to be told.
  if (::dup2(output, STDOUT_FILENO) < 0 || ::dup2(log, STDERR_FILENO) < 0) ::_exit(127);
  ::execv(argv[0], argv);
  ::_exit(127);
}

}  // namespace

Result<std::unique_ptr<Process>> Process::start(const std::vector<std::string>& argv,
                                                const std::filesystem::path& output,
                                                const std::filesystem::path& log) {
  constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC;
  const auto output_file = open_file(output, flags);
  if (!output_file) return std::unexpected(output_file.error());
  const auto log_file = open_file(log, flags);
  if (!log_file) return std::unexpected(log_file.error());
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail(Errc::internal, fmt::format("cannot start {}: {}", argv[0], std::strerror(errno)));
  if (pid == 0) become(arguments.data(), output_file->get(), log_file->get(), parent);
  return std::unique_ptr<Process>(new Process(pid));
}

Process::~Process() {
  if (exit_status()) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::optional<int> Process::exit_status() {
  if (status_) return status_;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return status_;
}

void Process::signal(int number) {
  if (!exit_status()) ::kill(pid_, number);
}

Result<ProcessUse> use_of(pid_t pid) {
  const std::string folder = fmt::format("/proc/{}/", pid);
  ProcessUse use;
  std::ifstream status(folder + "status");
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string key;
    std::uint64_t kib = 0;
    words >> key >> kib;
    if (key == "VmRSS:") use.resident_bytes = kib * 1024;
    if (key == "VmHWM:") use.peak_bytes = kib * 1024;
  }
  if (use.peak_bytes == 0) return fail(Errc::not_found, fmt::format("process {} is gone", pid));
  std::ifstream stat(folder + "stat");
  std::string line;
  std::getline(stat, line);
  // The second field is the name in parentheses and may hold anything; utime and stime are 14 and 15.
  std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  use.cpu_seconds = (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return use;
}

void forget_peak(pid_t pid) {
  std::ofstream file(fmt::format("/proc/{}/clear_refs", pid));
  file << "5";  // proc(5)
}

}  // namespace rivulet::bench
