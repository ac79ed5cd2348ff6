#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "cli/model_process.h"
#include "cli/writes_nothing.h"
#include "tests/catch.h"
#include "tests/cli/programs.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::cli;

namespace {

Status shell(const std::string& script, const ProcessLimits& limits = {}) {
  return run_limited("/bin/sh", {"-c", script}, limits);
}

}  // namespace

TEST_CASE("a child's status says what kind of error its last line is", "[cli][process]") {
  CHECK(shell("echo a warning >&2; exit 0"));
  const Status usage = shell("echo first >&2; echo 'sh: second' >&2; exit 2");
  REQUIRE_FALSE(usage);
  CHECK(usage.error() == Error{Errc::invalid, "second"});
  const Status failed = shell("echo 'disk full' >&2; exit 1");
  REQUIRE_FALSE(failed);
  CHECK(failed.error() == Error{Errc::refused, "disk full"});
  CHECK(shell("exit 3").error().detail.find("status 3") != std::string::npos);
  // More than a pipe holds: it is read while the child runs.
  const Status loud = shell(
      "i=0; while [ $i -lt 5000 ]; do echo 0123456789012345678901234567890123456789 >&2; "
      "i=$((i+1)); done; echo end >&2; exit 1");
  REQUIRE_FALSE(loud);
  CHECK(loud.error().detail == "end");
}

TEST_CASE("a child has limits, and does not know the admin token", "[cli][process]") {
  ::setenv("RIVULET_ADMIN_TOKEN", "secret", 1);
  CHECK(shell("test -z \"$RIVULET_ADMIN_TOKEN\""));
  ::unsetenv("RIVULET_ADMIN_TOKEN");
  CHECK(shell("test \"$(ulimit -c)\" = 0"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // Under these there is no such limit.
  CHECK(shell("test \"$(ulimit -v)\" = 1048576", {.address_space_bytes = std::uint64_t{1} << 30}));
#endif
  // Not of the default time of 2 s: in that a busy machine may not give it one second of CPU.
  const Status busy = shell("while :; do :; done", {.cpu_seconds = 1, .time = std::chrono::minutes(2)});
  REQUIRE_FALSE(busy);
  CAPTURE(busy.error().detail);
  CHECK(busy.error().detail.find("ended by signal") != std::string::npos);
  const Status big =
      shell("head -c 100000 /dev/zero >/tmp/rivulet-limit.$$; s=$?; rm -f /tmp/rivulet-limit.$$; exit $s",
            {.file_bytes = 4096});
  CHECK_FALSE(big);
}

TEST_CASE("a child that hangs is ended, whether or not it can still be heard", "[cli][process]") {
  const std::string script = GENERATE(as<std::string>(), "exec sleep 1000", "exec sleep 1000 2>&-",
                                      "echo 'a warning' >&2; exec sleep 1000");
  CAPTURE(script);
  const Status hung = shell(script, {.time = std::chrono::milliseconds(250)});
  REQUIRE_FALSE(hung);
  CHECK(hung.error().code == Errc::refused);
  CHECK(hung.error().detail.starts_with("sh was ended after 0.25 s in which it came to no end"));
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // No child is left, nor what is left of one.
  CHECK(errno == ECHILD);
}

TEST_CASE("a child that closes its standard error is waited for", "[cli][process]") {
  const Status closed = shell("exec 2>&-; i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; exit 3");
  REQUIRE_FALSE(closed);
  CHECK(closed.error().detail == "sh ended with status 3");
}

TEST_CASE("while a user's network is tried no byte can be written to a file", "[cli][process]") {
  const TemporaryFolder folder;
  const auto write_byte = [&] {
    const int file = ::open((folder.path / "file").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    REQUIRE(file >= 0);
    errno = 0;
    const bool is_written = ::write(file, "x", 1) == 1;
    const int error = errno;
    ::close(file);
    return is_written ? 0 : error;
  };
  CHECK(write_byte() == 0);
  // Catch2 asserts in the test's own thread.
  const std::string file = (folder.path / "file").string();
  const std::string other = (folder.path / "other").string();
  const int reader = ::open(file.c_str(), O_RDONLY);
  const int writer = ::open(file.c_str(), O_WRONLY);
  const auto error_of = [](long result) { return result < 0 ? errno : 0; };
  std::vector<int> errors;
  char byte = 0;
  const Status ran = without_writing([&]() -> Status {
    for (const int flags : {O_WRONLY, O_RDWR, O_RDWR | O_CREAT, O_RDONLY | O_TRUNC})
      errors.push_back(error_of(::open(file.c_str(), flags, 0600)));
    errors.push_back(error_of(::open(other.c_str(), O_RDONLY | O_CREAT, 0600)));
    errors.push_back(error_of(::creat(other.c_str(), 0600)));
    errors.push_back(error_of(::rename(file.c_str(), other.c_str())));
    errors.push_back(error_of(::unlink(file.c_str())));
    errors.push_back(error_of(::truncate(file.c_str(), 0)));
    errors.push_back(error_of(::link(file.c_str(), other.c_str())));
    errors.push_back(error_of(::mkdir(other.c_str(), 0700)));
    errors.push_back(error_of(::chmod(file.c_str(), 0)));
    errors.push_back(error_of(::socket(AF_INET, SOCK_STREAM, 0)));
    std::thread([&] { errors.push_back(error_of(::open(file.c_str(), O_RDWR))); }).join();
    errors.push_back(error_of(::pwrite(writer, "y", 1, 5)) == EFBIG ? EPERM : 0);
    return ::pread(reader, &byte, 1, 0) == 1 ? Status() : fail(Errc::storage, "cannot read");
  });
  CHECK(ran.has_value());
  CHECK(errors == std::vector<int>(15, EPERM));
  CHECK(byte == 'x');
  CHECK(without_writing([]() -> Result<int> { return fail(Errc::refused, "its own"); }).error().detail ==
        "its own");
  CHECK_THROWS_AS(without_writing([]() -> Status { throw std::runtime_error("its own"); }),
                  std::runtime_error);
  CHECK(tests::contents(file) == "x");
  CHECK(write_byte() == 0);
  ::close(reader);
  ::close(writer);
}

TEST_CASE("a program that is not there is named", "[cli][process]") {
  const auto none = sibling_program("rivulet-none");
  REQUIRE_FALSE(none);
  CHECK(none.error().detail.find("/rivulet-none: install it beside rivulet") != std::string::npos);
  const Status missing = run_limited("/none/rivulet-model", {});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == Errc::internal);
  CHECK(missing.error().detail.find("cannot run /none/rivulet-model") != std::string::npos);
}
