#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/coordinator_server/http.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using nlohmann::json;

namespace {

/// The real coordinator. Its log goes to a file, so that it never waits for us to read.
class Coordinator {
 public:
  Coordinator(const std::filesystem::path& folder, std::vector<std::string> words, const std::string& fault)
      : log_(folder.parent_path() / "log") {
    words.insert(words.begin(), COORDINATOR_PROGRAM);
    words.insert(words.end(), {"--dir", folder.string()});
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    int out[2];
    REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      if (!fault.empty()) ::setenv("RIVULET_FAULT_FS", fault.c_str(), 1);
      ::dup2(out[1], STDOUT_FILENO);
      ::dup2(::open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
      ::execv(arguments[0], arguments.data());
      ::_exit(127);
    }
    ::close(out[1]);
    out_ = out[0];
  }
  ~Coordinator() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(out_);
  }
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  std::string line() const {
    std::string text;
    char c = 0;
    while (::read(out_, &c, 1) == 1 && c != '\n') text += c;
    return text;
  }
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  int stop() {
    ::kill(pid_, SIGTERM);
    return wait();
  }
  [[nodiscard]] std::string log() const { return contents(log_); }
  static std::string contents(const std::filesystem::path& file) {
    std::string text(std::filesystem::file_size(file), '\0');
    const int source = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    const auto got = ::read(source, text.data(), text.size());
    ::close(source);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

 private:
  std::filesystem::path log_;
  pid_t pid_ = 0;
  int out_ = -1;
};

Endpoint admin_of(const std::string& ready) {
  INFO(ready);
  REQUIRE(ready.starts_with("{"));
  return parse_endpoint(json::parse(ready).at("admin").get<std::string>()).value();
}

int tokens_in_audit(const HttpReply& audit) {
  int count = 0;
  for (std::size_t at = 0; (at = audit.body.find("\"token_created\"", at)) != std::string::npos; ++at)
    ++count;
  return count;
}

}  // namespace

TEST_CASE("the program ends with status 1 when its disk fails, and kept every word that it gave",
          "[hostile]") {
  const TemporaryFolder parent;
  const std::filesystem::path folder = parent.path / "coordinator";
  {
    Coordinator init(folder, {"init", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, "");
    REQUIRE(init.wait() == 0);
  }
  const std::string token_file = Coordinator::contents(folder / "admin.token");
  const std::string admin_token = token_file.substr(0, token_file.find('\n'));
  int promised = 0;
  {
    Coordinator coordinator(folder, {"run"}, "forget_unsynced,eio_after=300");
    const Endpoint admin = admin_of(coordinator.line());
    while (promised < 1000 && http(admin, "POST", "/v1/tokens", admin_token, "{}").status == 200) ++promised;
    CHECK(promised > 10);
    CHECK(promised < 1000);
    CHECK(coordinator.wait() == 1);
    CHECK(coordinator.log().find("storage_failed") != std::string::npos);
  }
  Coordinator coordinator(folder, {"run"}, "");
  const Endpoint admin = admin_of(coordinator.line());
  const int kept = tokens_in_audit(http(admin, "GET", "/v1/audit", admin_token));
  CHECK(kept >= promised);  // The last one may be there without its answer.
  CHECK(kept <= promised + 1);
  CHECK(coordinator.stop() == 0);
}
