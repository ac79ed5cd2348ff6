#include "storage/crash_point.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <spdlog/fmt/fmt.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"
#include "tests/catch.h"
#include "tests/storage/workload.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

namespace {

struct Death {
  int status = 0;                  // As waitpid gives it.
  std::uint64_t acknowledged = 0;  // The last item that the child promised.
  std::string errors;
};

std::string read_all(int fd) {
  std::string text;
  char buffer[256];
  for (ssize_t got; (got = ::read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  ::close(fd);
  return text;
}

/// Runs storage_crash_child in a process of its own, with these variables, to its end.
Death run_child(const std::filesystem::path& folder, std::uint64_t count,
                std::vector<std::string> variables) {
  int output[2];
  int errors[2];
  REQUIRE(::pipe2(output, O_CLOEXEC) == 0);
  REQUIRE(::pipe2(errors, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, errors[1], STDERR_FILENO);
  std::vector<std::string> arguments = {RIVULET_CRASH_CHILD, folder.string(), std::to_string(count)};
  std::vector<char*> argv;
  std::vector<char*> envp;
  for (auto& argument : arguments) argv.push_back(argument.data());
  for (auto& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  pid_t child = 0;
  REQUIRE(::posix_spawn(&child, RIVULET_CRASH_CHILD, &actions, nullptr, argv.data(), envp.data()) == 0);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(output[1]);
  ::close(errors[1]);

  Death death;
  const std::string lines = read_all(output[0]);
  death.errors = read_all(errors[0]);
  REQUIRE(::waitpid(child, &death.status, 0) == child);
  for (std::size_t begin = 0; begin < lines.size(); begin = lines.find('\n', begin) + 1) {
    death.acknowledged = std::stoull(lines.substr(begin));
  }
  return death;
}

std::string find_loss_in(const std::filesystem::path& folder, std::uint64_t acknowledged) {
  const auto store = open_rocksdb_store(folder / "store", workload_families);
  if (!store) return store.error().detail;
  const auto blobs = open_file_blob_store(folder / "blobs");
  if (!blobs) return blobs.error().detail;
  return find_loss(**store, **blobs, acknowledged);
}

bool killed(const Death& death) { return WIFSIGNALED(death.status) && WTERMSIG(death.status) == SIGKILL; }

}  // namespace

TEST_CASE("a process killed at any crash point has lost nothing that it acknowledged", "[storage][crash]") {
  for (const auto name : crash_point_names) {
    if (!name.starts_with("store.") && !name.starts_with("blob.")) continue;  // Of other libraries.
    for (const int visit : {1, 2, 3}) {
      for (const std::string faults : {"", "forget_unsynced"}) {
        if (visit != 2 && faults.empty()) continue;  // A kill alone leaves more than one with forgetting.
        CAPTURE(name, visit, faults);
        const TemporaryFolder folder;
        std::uint64_t acknowledged = 0;
        for (int life = 0; life < 2; ++life) {  // The second one starts on what the first has left.
          const auto death =
              run_child(folder.path, 10,
                        {fmt::format("RIVULET_CRASH_AT={}:{}", name, visit), "RIVULET_FAULT_FS=" + faults});
          CAPTURE(life, death.errors);
          CHECK(killed(death));
          acknowledged = std::max(acknowledged, death.acknowledged);
          const auto loss = find_loss_in(folder.path, acknowledged);
          CHECK(loss == "");
          // An item that was stored but not acknowledged is as good as one that was: the next one follows it.
          const auto store = open_rocksdb_store(folder.path / "store", workload_families);
          REQUIRE(store);
          if (const auto last = (*store)->last("items"); *last) acknowledged = *number_of_key((**last).key);
        }
        const auto done = run_child(folder.path, 2, {});
        CHECK(done.status == 0);
        CHECK(done.acknowledged == acknowledged + 2);
        CHECK(find_loss_in(folder.path, done.acknowledged) == "");
      }
    }
  }
}

TEST_CASE("a process on a disk that lies about syncs is caught when it is killed", "[storage][crash]") {
  const TemporaryFolder folder;
  const auto death = run_child(
      folder.path, 10,
      {"RIVULET_CRASH_AT=store.after_commit:12", "RIVULET_FAULT_FS=lie_about_sync,forget_unsynced"});
  REQUIRE(killed(death));
  CHECK(death.acknowledged == 5);
  CHECK(find_loss_in(folder.path, death.acknowledged) != "");
}

TEST_CASE("a process whose disk fails or fills stops with the error, and loses nothing", "[storage][crash]") {
  const auto [fault, error] = GENERATE(table<const char*, const char*>(
      {{"enospc_after=60000", "storage_full: "}, {"eio_after=40", "storage: "}}));
  CAPTURE(fault);
  const TemporaryFolder folder;
  const auto death = run_child(folder.path, 100, {std::string("RIVULET_FAULT_FS=") + fault});
  CHECK(WIFEXITED(death.status));
  CHECK(WEXITSTATUS(death.status) == 1);
  CHECK(death.errors.starts_with(error));
  CHECK(std::ranges::count(death.errors, '\n') == 1);
  CHECK(death.acknowledged > 0);
  CHECK(find_loss_in(folder.path, death.acknowledged) == "");
}

TEST_CASE("a crash point or fault that does not exist is an error that names those that do",
          "[storage][crash]") {
  const TemporaryFolder folder;
  const auto variable =
      GENERATE(as<std::string>(), "RIVULET_CRASH_AT=blob.before_sunrise",
               "RIVULET_CRASH_AT=blob.before_rename:0", "RIVULET_CRASH_AT=blob.before_rename:x",
               "RIVULET_FAULT_FS=gremlins", "RIVULET_FAULT_FS=forget_unsynced,enospc_after=");
  CAPTURE(variable);
  const auto death = run_child(folder.path, 1, {variable});
  CHECK(WIFEXITED(death.status));
  CHECK(WEXITSTATUS(death.status) == 1);
  CHECK(death.errors.starts_with("invalid: "));
  CHECK(death.acknowledged == 0);
}
