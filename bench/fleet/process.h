#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/result.h"

namespace rivulet::bench {

/// A child process. It dies with us, and its destructor kills it if it still runs.
class Process {
 public:
  /// @param argv the program's path and its arguments. @param output, log get its standard output and
  /// error. A program that is missing or not executable ends with status 127.
  static Result<std::unique_ptr<Process>> start(const std::vector<std::string>& argv,
                                                const std::filesystem::path& output,
                                                const std::filesystem::path& log);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Nothing while it runs; 128 + N if signal N ended it. Does not wait.
  std::optional<int> exit_status();
  /// Sends a signal unless it has ended.
  void signal(int number);

 private:
  explicit Process(pid_t pid) : pid_(pid) {}

  pid_t pid_;
  std::optional<int> status_;
};

/// What the kernel says of a process, read from outside (proc(5)).
struct ProcessUse {
  std::uint64_t resident_bytes = 0;  ///< VmRSS
  std::uint64_t peak_bytes = 0;      ///< VmHWM
  double cpu_seconds = 0;            ///< In user and system mode, all threads.
};
/// @return not_found if it is gone.
Result<ProcessUse> use_of(pid_t pid);
/// Lets VmHWM start again from what is resident now, so that each phase shows its own peak; where the
/// kernel does not allow it, the peak stays that of all phases so far.
void forget_peak(pid_t pid);

}  // namespace rivulet::bench
