#pragma once

#include <asio/awaitable.hpp>
#include <functional>

#include "bench/fleet/process.h"
#include "protocol/transport/deadline.h"

namespace rivulet::bench {

/// The real rivulet-coordinator as a child process, and `rivulet` to command it. Its waits let the
/// fleet's thread go on.
class CoordinatorProgram {
 public:
  struct Settings {
    std::uint32_t cohort = 0;
    std::uint64_t blob_quota_mib = 0;
  };

  /// @param programs the folder of the executables. @param folder exists; coordinator and logs live in it.
  /// @param deadline all waits end with a timeout then.
  CoordinatorProgram(std::filesystem::path programs, std::filesystem::path folder, Deadline deadline)
      : programs_(std::move(programs)), folder_(std::move(folder)), deadline_(deadline) {}

  /// Founds the fleet, writes the settings and starts the daemon; ready when it returns.
  asio::awaitable<Status> start(Settings settings);
  /// `rivulet --dir D ARGUMENTS…`. @return its standard output without the last line feed.
  asio::awaitable<Result<std::string>> command(std::vector<std::string> arguments);
  /// Ends the daemon by SIGTERM. @return what its exit status says.
  asio::awaitable<Status> stop();
  /// Waits until `done()`. @return timeout; disconnected if the daemon ends in the meantime; cancelled.
  asio::awaitable<Status> wait_until(std::function<bool()> done, std::string what);

  /// Since the last call, or the start.
  Result<ProcessUse> take_use();
  [[nodiscard]] std::filesystem::path home() const { return folder_ / "coordinator"; }

 private:
  asio::awaitable<Result<std::string>> run(std::vector<std::string> argv);
  [[nodiscard]] std::string last_words(const std::filesystem::path& log) const;

  const std::filesystem::path programs_;
  const std::filesystem::path folder_;
  const Deadline deadline_;
  std::unique_ptr<Process> daemon_;
};

}  // namespace rivulet::bench
