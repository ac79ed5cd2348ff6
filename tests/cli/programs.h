#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

/// Runs the real programs, as an operator would.
namespace rivulet::tests {

/// What a program left behind.
struct Outcome {
  int status = -1;  ///< Its exit status; 128 + the signal that ended it.
  std::string out;
  std::string err;
};

/// The program of that name in the build's bin folder.
std::string program(const std::string& name);

/// Runs it to its end. @param environment "NAME=VALUE" beside ours, less RIVULET_ADMIN_TOKEN.
Outcome run(const std::string& program, const std::vector<std::string>& arguments,
            const std::vector<std::string>& environment = {});

/// `rivulet` with these arguments.
Outcome operate(const std::vector<std::string>& arguments, const std::vector<std::string>& environment = {});

/// A daemon that has said that it is ready; the destructor ends it.
class Daemon {
 public:
  Daemon(const std::string& program, const std::vector<std::string>& arguments);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  /// The line that it wrote to standard output; empty if it ended instead.
  [[nodiscard]] const std::string& ready() const { return ready_; }
  /// Sends SIGTERM. @return its exit status.
  int stop();

 private:
  pid_t child_ = -1;
  std::string ready_;
};

std::string contents(const std::filesystem::path& file);
void write(const std::filesystem::path& file, const std::string& text);
/// Whether it is exactly one line that begins with the program's name.
bool is_one_line(const std::string& err, const std::string& program);

/// A specification of a small network on the digits of data/digits, whose 65th column is the label.
std::string digits_spec(const std::string& more = "");

}  // namespace rivulet::tests
