#include "tests/cli/programs.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <utility>

#include "protocol/assert.h"

namespace rivulet::tests {
namespace {

struct Pipe {
  int read_end = -1;
  int write_end = -1;
  Pipe() {
    int ends[2];
    RIVULET_ASSERT(::pipe2(ends, O_CLOEXEC) == 0);
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() {
    for (const int end : {read_end, write_end}) {
      if (end >= 0) ::close(end);
    }
  }
  void close_writer() { ::close(std::exchange(write_end, -1)); }
};

/// @param err_fd -1: ours.
pid_t start(const std::string& program, const std::vector<std::string>& arguments,
            const std::vector<std::string>& environment, int out_fd, int err_fd) {
  const pid_t child = ::fork();
  RIVULET_ASSERT(child >= 0);
  if (child != 0) return child;
  ::unsetenv("RIVULET_ADMIN_TOKEN");
  for (const std::string& variable : environment) ::putenv(const_cast<char*>(variable.c_str()));
  ::dup2(out_fd, STDOUT_FILENO);
  if (err_fd >= 0) ::dup2(err_fd, STDERR_FILENO);
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

int status_of(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// Reads both to their ends, whichever has something.
void read_both(int first, std::string& first_text, int second, std::string& second_text) {
  pollfd waits[2] = {{first, POLLIN, 0}, {second, POLLIN, 0}};
  std::string* texts[2] = {&first_text, &second_text};
  for (int open = 2; open > 0;) {
    RIVULET_ASSERT(::poll(waits, 2, -1) > 0 || errno == EINTR);
    for (int i = 0; i < 2; ++i) {
      if (waits[i].fd < 0 || waits[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t got = ::read(waits[i].fd, buffer, sizeof buffer);
      if (got > 0) {
        texts[i]->append(buffer, static_cast<std::size_t>(got));
      } else {
        waits[i].fd = -1;
        --open;
      }
    }
  }
}

}  // namespace

std::string program(const std::string& name) { return std::string(RIVULET_BIN) + "/" + name; }

Outcome run(const std::string& program, const std::vector<std::string>& arguments,
            const std::vector<std::string>& environment) {
  Pipe out;
  Pipe err;
  const pid_t child = start(program, arguments, environment, out.write_end, err.write_end);
  out.close_writer();
  err.close_writer();
  Outcome outcome;
  read_both(out.read_end, outcome.out, err.read_end, outcome.err);
  outcome.status = status_of(child);
  return outcome;
}

Outcome operate(const std::vector<std::string>& arguments, const std::vector<std::string>& environment) {
  return run(program("rivulet"), arguments, environment);
}

Daemon::Daemon(const std::string& program, const std::vector<std::string>& arguments) {
  Pipe out;
  child_ = start(program, arguments, {}, out.write_end, -1);
  out.close_writer();
  char c = 0;
  while (::read(out.read_end, &c, 1) == 1 && c != '\n') ready_ += c;
}

Daemon::~Daemon() { stop(); }

int Daemon::stop() {
  if (child_ < 0) return -1;
  ::kill(child_, SIGTERM);
  return status_of(std::exchange(child_, -1));
}

std::string contents(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

bool is_one_line(const std::string& err, const std::string& program) {
  return err.starts_with(program + ": ") && err.find('\n') == err.size() - 1;
}

std::string digits_spec(const std::string& more) {
  const std::string data = (std::filesystem::current_path() / "data/digits/digits.csv.gz").string();
  return R"(name = "digits"
[model]
architecture = "mlp"
hidden = [32]
[input]
shape = [64]
mean = [4.9]
scale = [16.0]
[task]
kind = "classification"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
[holdout]
path = ")" +
         data + R"("
label = "65"
[test]
path = ")" +
         data + R"("
label = "65"
)" + more;
}

}  // namespace rivulet::tests
