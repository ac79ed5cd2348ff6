#include "cli/model_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "protocol/text.h"
#include "storage/file.h"

namespace rivulet::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kept_bytes = 8 << 10;
/// As shells have it: the program could not be run.
constexpr int status_not_run = 127;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool limit_address_space = false;  // Their shadow memory is terabytes of it.
#else
constexpr bool limit_address_space = true;
#endif

void limit(int resource, std::uint64_t value) {
  const rlimit both{value, value};
  if (::setrlimit(static_cast<__rlimit_resource_t>(resource), &both) != 0) ::_exit(status_not_run);
}

/// In the child, after the fork.
[[noreturn]] void become(const fs::path& program, const std::vector<std::string>& arguments,
                         const ProcessLimits& limits, int error_fd, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(status_not_run);  // It died before the line above.
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, limits.cpu_seconds);
  limit(RLIMIT_FSIZE, limits.file_bytes);
  if (limit_address_space) limit(RLIMIT_AS, limits.address_space_bytes);
  ::signal(SIGPIPE, SIG_DFL);
  ::unsetenv("RIVULET_ADMIN_TOKEN");
  // Each of OpenBLAS's threads maps memory, on a large machine beyond the limit.
  ::setenv("OPENBLAS_NUM_THREADS", "1", 1);
  ::setenv("OMP_NUM_THREADS", "1", 1);
  ::dup2(error_fd, STDERR_FILENO);
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  const std::string why = fmt::format("cannot run {}: {}\n", program.string(), std::strerror(errno));
  std::ignore = ::write(STDERR_FILENO, why.data(), why.size());  // The status tells, if this does not.
  ::_exit(status_not_run);
}

/// Until when something is waited for.
class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds time) : end_(Clock::now() + time) {}

  /// For poll(): at most an hour, and 0 when it is over.
  [[nodiscard]] int milliseconds() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now());
    constexpr std::chrono::milliseconds none{0};
    return static_cast<int>(std::clamp(left, none, std::chrono::milliseconds(std::chrono::hours(1))).count());
  }
  [[nodiscard]] bool is_over() const { return milliseconds() == 0; }

 private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point end_;
};

/// All of it is read, so that the child never waits; the end is kept.
std::string read_end(int fd, const Deadline& deadline) {
  std::string text;
  char buffer[4096];
  while (!deadline.is_over()) {
    pollfd readable{fd, POLLIN, 0};
    if (::poll(&readable, 1, deadline.milliseconds()) <= 0) continue;  // Interrupted, or too late.
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > 2 * kept_bytes) text.erase(0, text.size() - kept_bytes);
  }
  return text;
}

/// A child that closed its standard error has usually ended: only one that has not is asked about again.
/// @return its status; nothing if it had to be killed.
std::optional<int> wait_for(pid_t child, const Deadline& deadline) {
  constexpr int pause_milliseconds = 5;
  int status = 0;
  while (true) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) return status;
    // It is not known where SIGCHLD is ignored: then what the child left tells.
    if (ended < 0 && errno != EINTR) return 0;
    if (ended == 0 && deadline.is_over()) break;
    if (ended == 0) ::poll(nullptr, 0, std::min(pause_milliseconds, deadline.milliseconds()));
  }
  ::kill(child, SIGKILL);
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return std::nullopt;
}

/// Without the name of the program that stands before it.
std::string last_line(std::string text, const std::string& program) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  text.erase(0, text.rfind('\n') + 1);  // npos + 1 is 0.
  const std::string prefix = program + ": ";
  return to_printable(text.starts_with(prefix) ? text.substr(prefix.size()) : text);
}

}  // namespace

Result<fs::path> sibling_program(const std::string& name) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const fs::path program = self.parent_path() / name;
  if (error || ::access(program.c_str(), X_OK) != 0) {
    return fail(Errc::not_found,
                fmt::format("there is no program {}: install it beside rivulet", program.string()));
  }
  return program;
}

Status run_limited(const fs::path& program, const std::vector<std::string>& arguments,
                   const ProcessLimits& limits) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return fail(Errc::internal, fmt::format("no pipe can be had: {}", std::strerror(errno)));
  const FileDescriptor reader(ends[0]);
  FileDescriptor writer(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0)
    return fail(Errc::internal, fmt::format("no process can be started: {}", std::strerror(errno)));
  if (child == 0) become(program, arguments, limits, writer.get(), parent);
  writer.close();
  const std::string name = program.filename().string();
  const std::chrono::milliseconds time =
      limits.time.count() > 0 ? limits.time : std::chrono::seconds(2 * limits.cpu_seconds);
  const Deadline deadline(time);
  const std::string line = last_line(read_end(reader.get(), deadline), name);
  const std::optional<int> status = wait_for(child, deadline);
  if (!status) {
    return fail(Errc::refused, fmt::format("{} was ended after {} s in which it came to no end: the model's "
                                           "file may be damaged, or this machine too busy",
                                           name, std::chrono::duration<double>(time).count()));
  }
  if (WIFSIGNALED(*status)) {
    const int number = WTERMSIG(*status);
    const bool is_limit = number == SIGXCPU || number == SIGKILL;
    const std::string why = is_limit ? fmt::format("the model may need more than {} s or {} GiB",
                                                   limits.cpu_seconds, limits.address_space_bytes >> 30)
                                     : "the model's file may be damaged";
    return fail(Errc::refused,
                fmt::format("{} was ended by signal {} ({}): {}", name, number, ::strsignal(number), why));
  }
  const int code = WEXITSTATUS(*status);
  if (code == 0) return {};
  if (code == status_not_run)
    return fail(Errc::internal, line.empty() ? name + " could not be started" : line);
  return fail(code == 2 ? Errc::invalid : Errc::refused,
              line.empty() ? fmt::format("{} ended with status {}", name, code) : line);
}

}  // namespace rivulet::cli
