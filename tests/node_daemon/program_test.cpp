#include <httplib.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "node/daemon/api_client.h"
#include "protocol/token.h"
#include "tests/catch.h"
#include "tests/node_daemon/joined_folder.h"
#include "tests/node_daemon/program.h"
#include "tests/temporary_folder.h"

namespace rivulet::node {
namespace {

using Json = nlohmann::json;

TEST_CASE("the daemon serves its API without a coordinator, holds its folder, and ends cleanly",
          "[node][program]") {
  const TemporaryFolder folder;
  make_joined_folder(folder.path);
  const std::string dir = folder.path.string();
  Program daemon(NODE_PROGRAM, {"run", "--dir", dir, "--log-format", "json"});
  const Json ready = Json::parse(daemon.read_line(), nullptr, false);
  REQUIRE(ready.is_object());
  CHECK(ready["ready"] == true);
  const auto run_json = read_file(folder.path / "run.json", 4096);
  REQUIRE(run_json);
  CHECK(Json::parse(text_of(*run_json))["api"] == ready["api"]);

  // A second daemon has no business here.
  const auto second = run_node({"run", "--dir", dir});
  CHECK(second.status == 1);
  CHECK(second.err.find("in use by another process") != std::string::npos);

  // Commands talk to the daemon.
  const auto ingested =
      run_node({"ingest", "--dir", dir, "data/digits/digits.csv.gz", "--label", "65", "--json"});
  CHECK(ingested.status == 0);
  CHECK(Json::parse(ingested.out)["stored"] == 1797);
  const auto running = run_node({"status", "--dir", dir, "--json"});
  CHECK(running.status == 0);
  const Json document = Json::parse(running.out);
  CHECK(document["running"] == true);
  CHECK(document["samples"].get<int>() + document["holdout_samples"].get<int>() == 1797);
  std::ofstream(folder.path / "empty.csv") << "";
  const std::string empty = (folder.path / "empty.csv").string();
  for (const char* command : {"ingest", "infer"}) {
    const auto nothing = run_node({command, "--dir", dir, empty});
    CAPTURE(command, nothing.err);
    CHECK(nothing.status == 1);
    CHECK(is_one_line(nothing.err));
    CHECK(nothing.err.find(empty + ": holds no sample") != std::string::npos);
  }
  // What the other files hold is stored all the same.
  std::ofstream(folder.path / "one.csv") << "1,2,3\n";
  const auto both = run_node({"ingest", "--dir", dir, empty, (folder.path / "one.csv").string()});
  CHECK(both.status == 1);
  CHECK(both.out.starts_with("stored 1\n"));

  const auto infer = run_node({"infer", "--dir", dir, "data/digits/digits.csv.gz", "--label", "65"});
  CHECK(infer.status == 1);
  CHECK(is_one_line(infer.err));

  daemon.send(SIGTERM);
  const auto begin = std::chrono::steady_clock::now();
  const auto end = daemon.wait();
  CHECK(end.status == 0);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
  CHECK(end.out.empty());
  CHECK_FALSE(std::filesystem::exists(folder.path / "run.json"));
  CHECK(end.err.find(std::string(64, 'a')) == std::string::npos);

  // What was ingested is still there, without a daemon.
  const auto stopped = run_node({"status", "--dir", dir, "--json"});
  CHECK(Json::parse(stopped.out)["running"] == false);
  const auto again = run_node({"ingest", "--dir", dir, "data/digits/digits.csv.gz", "--label", "65"});
  CHECK(again.status == 0);
  CHECK(again.out.starts_with("stored 0\nduplicate 1797\nrefused 0\n"));
}

TEST_CASE("a daemon that was killed leaves a folder that starts again", "[node][program]") {
  const TemporaryFolder folder;
  make_joined_folder(folder.path);
  const std::string dir = folder.path.string();
  {
    Program daemon(NODE_PROGRAM, {"run", "--dir", dir});
    REQUIRE_FALSE(daemon.read_line().empty());
    CHECK(run_node({"ingest", "--dir", dir, "data/digits/digits.csv.gz", "--label", "65"}).status == 0);
    daemon.send(SIGKILL);
    CHECK(daemon.wait().status == 128 + SIGKILL);
  }
  CHECK(std::filesystem::exists(folder.path /
                                "run.json"));  // It says nothing now, and goes with the next opening.
  const auto status = run_node({"status", "--dir", dir, "--json"});
  REQUIRE(status.status == 0);
  const Json document = Json::parse(status.out);
  CHECK(document["running"] == false);
  CHECK(document["samples"].get<int>() + document["holdout_samples"].get<int>() == 1797);
  Program daemon(NODE_PROGRAM, {"run", "--dir", dir});
  CHECK_FALSE(daemon.read_line().empty());
  daemon.send(SIGINT);
  CHECK(daemon.wait().status == 0);
}

TEST_CASE("a model that ends the daemon while it loads is not loaded at every start for ever",
          "[node][program]") {
  const TemporaryFolder folder;
  make_joined_folder(folder.path);
  install_version(folder.path);
  const std::string dir = folder.path.string();
  REQUIRE(::setenv("RIVULET_CRASH_AT", "node.version_loaded", 1) == 0);
  for (int start = 1; start <= 3; ++start) {
    CAPTURE(start);
    CHECK(run_node({"run", "--dir", dir}).status == 128 + SIGKILL);
  }
  Program daemon(NODE_PROGRAM, {"run", "--dir", dir});
  REQUIRE(::unsetenv("RIVULET_CRASH_AT") == 0);
  const Json ready = Json::parse(daemon.read_line(), nullptr, false);
  REQUIRE(ready.is_object());
  // It would have died by now, were the model loaded: this is answered after the agent's start.
  const auto status = run_node({"status", "--dir", dir});
  CHECK(status.status == 0);
  CHECK(status.out.find("serves    nothing: version 1 (int8) failed\n") != std::string::npos);
  httplib::Client client("http://" + ready["api"].get<std::string>());
  const auto readiness = client.Get("/readyz");
  REQUIRE(readiness);
  CHECK(readiness->status == 503);
  daemon.send(SIGTERM);
  CHECK(daemon.wait().status == 0);

  // The crash point gone, the next start serves it.
  Program next(NODE_PROGRAM, {"run", "--dir", dir});
  const Json again = Json::parse(next.read_line(), nullptr, false);
  REQUIRE(again.is_object());
  httplib::Client asking("http://" + again["api"].get<std::string>());
  bool serves = false;
  const auto patience_end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!serves && std::chrono::steady_clock::now() < patience_end) {
    const auto answer = asking.Get("/readyz");
    serves = answer && answer->status == 200;
  }
  CHECK(serves);
  next.send(SIGTERM);
  CHECK(next.wait().status == 0);
}

TEST_CASE("a daemon answers the samples of a file whatever the length of each", "[node][program]") {
  const TemporaryFolder folder;
  make_joined_folder(folder.path);
  install_version(folder.path);
  const std::string dir = folder.path.string(), file = dir + "/wide.csv";
  {
    std::ofstream out(file);
    for (int line = 0; line < 64; ++line) {
      for (int i = 0; i < 12'288; ++i) out << (i == 0 ? "" : ",") << "0.1234567";
      out << '\n';
    }
  }
  Program daemon(NODE_PROGRAM, {"run", "--dir", dir});
  const Json ready = Json::parse(daemon.read_line(), nullptr, false);
  REQUIRE(ready.is_object());
  httplib::Client asking("http://" + ready["api"].get<std::string>());
  const auto patience_end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const auto serves = [&] {
    const auto answer = asking.Get("/readyz");
    return answer && answer->status == 200;
  };
  while (!serves() && std::chrono::steady_clock::now() < patience_end) std::this_thread::yield();
  // The model takes two numbers, and says so of each.
  const auto answered = run_node({"infer", "--dir", dir, file});
  CAPTURE(answered.err);
  CHECK(answered.status == 1);
  CHECK(std::ranges::count(answered.out, '\n') == 64);
  CHECK(answered.out.find("\"index\":63") != std::string::npos);
  daemon.send(SIGTERM);
  CHECK(daemon.wait().status == 0);
}

TEST_CASE("a daemon whose port is taken says so, and where to name another", "[node][program]") {
  const TemporaryFolder folder;
  make_joined_folder(folder.path);
  httplib::Server stranger;
  const std::string taken = "127.0.0.1:" + std::to_string(stranger.bind_to_any_port("127.0.0.1"));
  std::thread serving([&] { stranger.listen_after_bind(); });
  while (!stranger.is_running()) std::this_thread::yield();
  std::string text(text_of(*read_file(folder.path / "node.toml", 65'536)));
  const std::string before = "listen = \"127.0.0.1:0\"";
  REQUIRE(text.find(before) != std::string::npos);
  text.replace(text.find(before), before.size(), "listen = \"" + taken + "\"");
  REQUIRE(write_file_durably(folder.path / "node.toml", bytes_of(text)));
  const auto run = run_node({"run", "--dir", folder.path.string()});
  stranger.stop();
  serving.join();
  CHECK(run.status == 1);
  CHECK(run.err == "rivulet-node: cannot listen on " + taken +
                       ": Address already in use: free it, or set another listen under [api] in " +
                       (folder.path / "node.toml").string() + "\n");
}

/// The most memory that a process has had so far.
std::uint64_t peak_kib(int process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/status");
  std::string word;
  while (file >> word && word != "VmHWM:") {
  }
  std::uint64_t kib = 0;
  file >> kib;
  return kib;
}

TEST_CASE("a body of nothing but brackets or numbers costs a small multiple of its length",
          "[node][program]") {
  const TemporaryFolder folder;
  make_joined_folder(folder.path);
  Program daemon(NODE_PROGRAM, {"run", "--dir", folder.path.string()});
  const Json ready = Json::parse(daemon.read_line(), nullptr, false);
  REQUIRE(ready.is_object());
  const int process = Json::parse(text_of(*read_file(folder.path / "run.json", 4096)))["pid"];
  httplib::Client client("http://" + ready["api"].get<std::string>());
  client.set_read_timeout(60);
  REQUIRE(client.Get("/healthz"));
  const std::uint64_t before = peak_kib(process);
  REQUIRE(before > 0);
  constexpr std::size_t half = 4'000'000;
  std::string pairs = "{\"inputs\":[[]";
  while (pairs.size() < 2 * half) pairs += ",[]";
  std::string numbers = "{\"inputs\":[[0";
  while (numbers.size() < 2 * half) numbers += ",0";
  for (const std::string& body :
       {std::string(half, '['), "{\"inputs\":" + std::string(half, '[') + std::string(half, ']') + "}",
        "{\"a\":" + std::string(half, '[') + std::string(half, ']') + "}", pairs + "]}", numbers + "]]}"}) {
    const auto result = client.Post("/v1/infer", body, "application/json");
    REQUIRE(result);
    CHECK(result->status >= 400);
  }
  CHECK(peak_kib(process) - before < 96 * 1024);
  daemon.send(SIGTERM);
  CHECK(daemon.wait().status == 0);
}

TEST_CASE("the API's token goes to the daemon that holds the folder, and to nobody else", "[node][program]") {
  const TemporaryFolder folder;
  make_joined_folder(folder.path);
  const std::string dir = folder.path.string();
  httplib::Server stranger;  // Listens where a daemon did that was killed.
  std::atomic<int> heard = 0;
  stranger.set_pre_routing_handler([&](const httplib::Request&, httplib::Response&) {
    ++heard;
    return httplib::Server::HandlerResponse::Unhandled;
  });
  const int port = stranger.bind_to_any_port("127.0.0.1");
  REQUIRE(port > 0);
  std::thread serving([&] { stranger.listen_after_bind(); });
  while (!stranger.is_running()) std::this_thread::yield();
  const Json stale = {{"pid", 1}, {"api", "127.0.0.1:" + std::to_string(port)}};
  REQUIRE(write_file_durably(folder.path / "run.json", bytes_of(stale.dump())));
  {
    const auto mine = lock_folder(folder.path);  // As a command does that opens the folder itself.
    REQUIRE(mine);
    const auto found = ApiClient::find(folder.path);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == Errc::conflict);
  }
  CHECK(run_node({"ingest", "--dir", dir, "data/digits/digits.csv.gz", "--label", "65"}).status == 0);
  CHECK_FALSE(std::filesystem::exists(folder.path / "run.json"));
  CHECK(heard == 0);
  stranger.stop();
  serving.join();
}

TEST_CASE("a daemon starts though commands look into its folder all the time", "[node][program]") {
  const TemporaryFolder folder;
  make_joined_folder(folder.path);
  const std::string dir = folder.path.string();
  std::atomic<bool> stop = false;
  std::atomic<int> looks = 0;
  std::thread watcher([&] {
    while (!stop) {
      if (run_node({"status", "--dir", dir}).status == 0) ++looks;
    }
  });
  for (int i = 0; i < 5; ++i) {
    while (looks <= i) std::this_thread::yield();
    Program daemon(NODE_PROGRAM, {"run", "--dir", dir});
    CHECK_FALSE(daemon.read_line().empty());
    daemon.send(SIGTERM);
    CHECK(daemon.wait().status == 0);
  }
  stop = true;
  watcher.join();
}

TEST_CASE("wrong usage and wrong folders are told in one line with the right status", "[node][program]") {
  const TemporaryFolder folder;
  const std::string dir = (folder.path / "n").string();
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {},
           {"dance"},
           {"run"},
           {"run", "--dir", dir},
           {"status", "--dir", dir},
           {"infer", "--dir", dir, "data/digits/digits.csv.gz"},
           {"ingest", "--dir", dir, "data/digits/digits.csv.gz"},
           {"ingest", "--dir", dir, "data/digits/none"},
           {"ingest", "--dir", dir, "data/digits/none.csv"},
           {"ingest", "--dir", dir, "data/digits/none", "--format", "csv"},
           {"ingest", "--dir", dir, "data/digits/digits.csv.gz", "data/none.csv"},
           {"infer", "--dir", dir, "data/digits/none"},
           {"infer", "--dir", dir, "data/digits/none.csv"},
           {"infer", "--dir", dir, "data/digits"},
           {"join", "nonsense", "--dir", dir}}) {
    const auto end = run_node(arguments);
    CAPTURE(arguments, end.err);
    CHECK(end.status == 2);
    CHECK(is_one_line(end.err));
    CHECK(end.out.empty());
  }
  CHECK_FALSE(std::filesystem::exists(dir));
  CHECK(run_node({"--help"}).status == 0);

  // A secret that others may read is not used before its owner has mended that.
  make_joined_folder(folder.path);
  for (const char* secret : {"node.key", "api.token"}) {
    REQUIRE(::chmod((folder.path / secret).c_str(), 0644) == 0);
    const auto loose = run_node({"run", "--dir", folder.path.string()});
    CAPTURE(loose.err);
    CHECK(loose.status == 2);
    CHECK(is_one_line(loose.err));
    CHECK(loose.err.find(secret) != std::string::npos);
    REQUIRE(::chmod((folder.path / secret).c_str(), 0600) == 0);
  }
}

TEST_CASE("joining keeps its key when nobody answers, and leaves a joined folder alone", "[node][program]") {
  const TemporaryFolder folder;
  const std::string dir = (folder.path / "n").string();
  JoinToken token;
  token.address = "127.0.0.1:1";  // Nobody listens there.
  token.root = SecretKey::generate().public_key();
  token.expires =
      std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now()) + std::chrono::hours(1);
  const auto first = run_node({"join", to_text(token), "--dir", dir});
  CHECK(first.status == 1);
  CHECK(is_one_line(first.err));
  const auto key = SecretKey::load(folder.path / "n" / "node.key");
  REQUIRE(key);
  CHECK(run_node({"join", to_text(token), "--dir", dir}).status == 1);
  const auto again = SecretKey::load(folder.path / "n" / "node.key");
  REQUIRE(again);
  CHECK(again->public_key() == key->public_key());
  CHECK_FALSE(std::filesystem::exists(folder.path / "n" / "node.toml"));

  // What is not ours stays as it is, and gets no neighbours: a coordinator's folder, or somebody's home.
  const auto names = [](const std::filesystem::path& where) {
    std::set<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(where))
      found.insert(entry.path().lexically_relative(where).string());
    return found;
  };
  const std::filesystem::path home = folder.path / "home";
  for (const char* file : {"coordinator.toml", "notes", "store/mine"}) {
    CAPTURE(file);
    std::filesystem::create_directories((home / file).parent_path());
    REQUIRE(write_file_durably(home / file, bytes_of("x")));
    const auto before = names(home);
    const auto refused = run_node({"join", to_text(token), "--dir", home.string()});
    CHECK(refused.status == 2);
    CHECK(is_one_line(refused.err));
    CHECK(refused.err.find("nothing was changed") != std::string::npos);
    CHECK(names(home) == before);
    std::filesystem::remove_all(home);
  }
  std::filesystem::create_directory(home);
  CHECK(run_node({"join", to_text(token), "--dir", home.string()}).status == 1);  // Empty: nobody answers.

  make_joined_folder(folder.path);
  const auto used = run_node({"join", to_text(token), "--dir", folder.path.string()});
  CHECK(used.status == 2);
  CHECK(used.err.find("has joined a fleet already") != std::string::npos);
}

}  // namespace
}  // namespace rivulet::node
