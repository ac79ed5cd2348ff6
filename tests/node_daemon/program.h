#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/catch.h"

namespace rivulet {

/// A real program with its output in pipes; killed if it outlives the object.
class Program {
 public:
  Program(const char* program, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program);
    std::vector<char*> words;
    for (std::string& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);
    int out[2], err[2];
    REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(err, O_CLOEXEC) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::dup2(out[1], STDOUT_FILENO);
      ::dup2(err[1], STDERR_FILENO);
      ::execv(words[0], words.data());
      ::_exit(127);
    }
    ::close(out[1]);
    ::close(err[1]);
    out_ = out[0];
    err_ = err[0];
  }
  ~Program() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(out_);
    ::close(err_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  std::string read_line() {
    std::string line;
    char c = 0;
    while (::read(out_, &c, 1) == 1 && c != '\n') line += c;
    return line;
  }
  void send(int signal) const { ::kill(pid_, signal); }

  struct End {
    int status = -1;
    std::string out;
    std::string err;
  };
  End wait() {
    End end;
    // Both at once: a program that finds one pipe full waits before it writes to the other.
    pollfd pipes[] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
    while (pipes[0].fd >= 0 || pipes[1].fd >= 0) {
      ::poll(pipes, 2, -1);
      read_some(pipes[0], end.out);
      read_some(pipes[1], end.err);
    }
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    end.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return end;
  }

 private:
  static void read_some(pollfd& pipe, std::string& text) {
    if (pipe.fd < 0 || pipe.revents == 0) return;
    char block[4096];
    const ssize_t got = ::read(pipe.fd, block, sizeof block);
    if (got > 0) {
      text.append(block, static_cast<std::size_t>(got));
    } else {
      pipe.fd = -1;
    }
  }

  pid_t pid_ = 0;
  int out_ = -1;
  int err_ = -1;
};

inline Program::End run_node(std::vector<std::string> arguments) {
  return Program(NODE_PROGRAM, std::move(arguments)).wait();
}

inline bool is_one_line(const std::string& text) {
  return !text.empty() && text.find('\n') == text.size() - 1;
}

}  // namespace rivulet
