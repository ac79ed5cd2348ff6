#include <httplib.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/dataset/dataset.h"
#include "models/package/release.h"
#include "models/package/snapshot.h"
#include "models/runtime/architectures.h"
#include "protocol/content.h"
#include "protocol/envelope.h"
#include "protocol/keys.h"
#include "tests/catch.h"
#include "tests/node_daemon/program.h"
#include "tests/temporary_folder.h"

namespace rivulet {
namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;

std::string read_text(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

template <typename Condition>
bool eventually(Condition&& condition, std::chrono::seconds patience = 60s) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < deadline) {
    if (condition()) return true;  // Each look is a request to a program, which keeps this loop slow.
  }
  return false;
}

/// The real coordinator on loopback.
class Coordinator {
 public:
  explicit Coordinator(std::filesystem::path folder) : folder_(std::move(folder)) {
    const auto made = Program(COORDINATOR_PROGRAM, {"init", "--dir", folder_.string(), "--listen",
                                                    "127.0.0.1:0", "--admin", "127.0.0.1:0"})
                          .wait();
    REQUIRE(made.status == 0);
    set("cohort", "3");
    set("over_selection", "1.0");
    set("updates_min", "2");
    // A machine with much else to do may keep a node from coming back for longer than five seconds.
    set("selection_patience_s", "60");
    set("tolerance", "0.5");  // With 60 holdout samples a node chance would refuse many a candidate.
  }

  /// Changes a key of coordinator.toml; counts from the next start.
  void set(const std::string& key, const std::string& value) const {
    std::istringstream lines(read_text(folder_ / "coordinator.toml"));
    std::string text;
    for (std::string line; std::getline(lines, line);) {
      text += (line.starts_with(key + " = ") ? key + " = " + value : line) + "\n";
    }
    std::ofstream(folder_ / "coordinator.toml") << text;
  }

  void start() {
    program_ = std::make_unique<Program>(
        COORDINATOR_PROGRAM,
        std::vector<std::string>{"run", "--dir", folder_.string(), "--log-level", "error"});
    const Json ready = Json::parse(program_->read_line(), nullptr, false);
    if (!ready.is_object()) FAIL("the coordinator did not start: " << program_->wait().err);
    admin_ = ready["admin"];
    // Its nodes come back to the same place.
    set("listen", "\"" + ready["listen"].get<std::string>() + "\"");
  }
  void stop() {
    program_->send(SIGTERM);
    CHECK(program_->wait().status == 0);
    program_.reset();
  }

  Json call(const std::string& path, const Json& body) const {
    httplib::Client client("http://" + admin_);
    client.set_read_timeout(230);
    std::string token = read_text(folder_ / "admin.token");
    while (!token.empty() && token.back() == '\n') token.pop_back();
    const httplib::Headers headers = {{"Authorization", "Bearer " + token}};
    const auto result = body.is_null() ? client.Get(path, headers)
                                       : client.Post(path, headers, body.dump(), "application/json");
    REQUIRE(result);
    CAPTURE(path, result->body);
    REQUIRE(result->status == 200);
    return Json::parse(result->body);
  }

  void import_digits() const {
    const auto release_key = SecretKey::load(folder_ / "offline" / "release.key");
    REQUIRE(release_key);
    Release release;
    release.fleet = *FleetId::from_hex(call("/v1/trust", nullptr)["document"]["fleet"].get<std::string>());
    release.name = "digits";
    release.architecture = {.kind = "mlp", .hidden = {32}, .input_shape = {64}, .outputs = 10};
    release.layout = layout_of(release.architecture).value();
    for (int i = 0; i < 10; ++i) release.classes.push_back(std::to_string(i));
    release.preprocessing = {.mean = {0}, .scale = {16}};
    const std::vector<float> weights = initial_weights(release.layout, 1);
    release.initial_weights = content_id_of(std::as_bytes(std::span(weights)));
    release.initial_weights_hash = weights_hash_of(weights);
    release.recipes = {"fp32", "int8"};
    const auto digits = embedded_digits().value();
    release.known_inputs.assign(digits.inputs.begin(), digits.inputs.begin() + 4 * 64);
    release.limits.max_distance = 100;
    release.created = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
    release.limits.expires = release.created + std::chrono::days(30);
    call("/v1/releases",
         {{"release", to_base64url(encode(seal(*release_key, Context::release, encode(release))))},
          {"weights", to_base64url(std::as_bytes(std::span(weights)))}});
  }

 private:
  const std::filesystem::path folder_;
  std::unique_ptr<Program> program_;
  std::string admin_;
};

struct Node {
  std::string dir;
  std::unique_ptr<Program> program;
  std::string api;

  void start() {
    program = std::make_unique<Program>(
        NODE_PROGRAM, std::vector<std::string>{"run", "--dir", dir, "--log-level", "error"});
    const Json ready = Json::parse(program->read_line(), nullptr, false);
    if (!ready.is_object()) FAIL("a node did not start: " << program->wait().err);
    api = ready["api"];
  }
  Json status() const {
    const auto result = httplib::Client("http://" + api).Get("/v1/status");
    return result ? Json::parse(result->body) : Json::object();
  }
  std::uint64_t serves() const {
    const Json document = status();
    return document["serving"].is_object() ? document["serving"]["version"].get<std::uint64_t>() : 0;
  }
  /// @return how long it took.
  std::chrono::steady_clock::duration stop() {
    const auto begin = std::chrono::steady_clock::now();
    program->send(SIGTERM);
    const auto end = program->wait();
    CAPTURE(end.err);
    CHECK(end.status == 0);
    program.reset();
    return std::chrono::steady_clock::now() - begin;
  }
};

/// The digits in files of their own: a share for each node, and a test split that none of them has.
void write_digits(const std::filesystem::path& folder, std::size_t nodes) {
  const auto digits = embedded_digits().value();
  std::vector<std::ofstream> files;
  for (std::size_t i = 0; i < nodes; ++i) files.emplace_back(folder / ("share" + std::to_string(i) + ".csv"));
  files.emplace_back(folder / "test.csv");
  for (std::size_t i = 0; i < digits.size(); ++i) {
    auto& file = i % 5 == 4 ? files.back() : files[i % nodes];
    for (const float value : digits.sample(i)) file << value << ',';
    file << digits.labels[i] << '\n';
  }
}

TEST_CASE("a fleet of three learns the digits, serves what it learned, and ends cleanly while it trains",
          "[node][fleet]") {
  const TemporaryFolder folder;
  Coordinator coordinator(folder.path / "coordinator");
  coordinator.start();
  constexpr std::size_t count = 3;
  write_digits(folder.path, count);
  const std::string token = coordinator.call("/v1/tokens", {{"uses", count}})["token"];
  std::vector<Node> nodes(count);
  for (std::size_t i = 0; i < count; ++i) {
    nodes[i].dir = (folder.path / ("node" + std::to_string(i))).string();
    REQUIRE(run_node({"join", token, "--dir", nodes[i].dir}).status == 0);
    // One ingests before its daemon runs, the others while it does.
    if (i > 0) nodes[i].start();
    const auto ingested =
        run_node({"ingest", "--dir", nodes[i].dir,
                  (folder.path / ("share" + std::to_string(i) + ".csv")).string(), "--label", "65"});
    CAPTURE(ingested.err);
    REQUIRE(ingested.status == 0);
    if (i == 0) nodes[i].start();
  }
  // What a node ingests while it runs, its coordinator knows soon.
  REQUIRE(eventually([&] {
    const Json known = coordinator.call("/v1/nodes", nullptr);
    return known.size() == count &&
           std::ranges::all_of(known, [](const Json& node) { return node["samples"] > 100; });
  }));
  coordinator.import_digits();
  REQUIRE(
      eventually([&] { return nodes[0].serves() == 1 && nodes[1].serves() == 1 && nodes[2].serves() == 1; }));

  const Json rounds = coordinator.call("/v1/rounds", {{"count", 5}, {"wait", true}, {"timeout_s", 200}});
  REQUIRE(rounds["rounds"].size() == 5);
  for (const Json& round : rounds["rounds"]) {
    CAPTURE(round.dump());
    CHECK(round["accepted"] == 3);
  }
  const auto newest = rounds["rounds"].back()["version"].get<std::uint64_t>();
  CHECK(newest > 1);
  for (const Node& node : nodes) {
    const bool serves = eventually([&] { return node.serves() == newest; });
    CAPTURE(newest, node.status().dump());
    REQUIRE(serves);
  }

  // The digits have 36 a class in the test split; guessing would get 0.1 of them.
  const auto answered =
      run_node({"infer", "--dir", nodes[0].dir, (folder.path / "test.csv").string(), "--label", "65"});
  REQUIRE(answered.status == 0);
  std::istringstream lines(answered.out);
  std::ifstream test(folder.path / "test.csv");
  std::size_t right = 0, total = 0;
  for (std::string line, row; std::getline(lines, line) && std::getline(test, row); ++total) {
    const Json json = Json::parse(line);
    CHECK(json["index"] == total);
    CHECK(json["version"] == newest);
    right += json["class"] == row.substr(row.rfind(',') + 1) ? 1 : 0;
  }
  CHECK(total == 359);
  CAPTURE(right);
  CHECK(static_cast<double>(right) > 0.8 * static_cast<double>(total));

  // A file none of whose samples has an answer is a failure; one with some is not.
  std::ofstream(folder.path / "narrow.csv") << "1,2,3\n4,5,6\n";
  const auto narrow = run_node({"infer", "--dir", nodes[0].dir, (folder.path / "narrow.csv").string()});
  CHECK(narrow.status == 1);
  CHECK(is_one_line(narrow.err));
  CHECK(std::ranges::count(narrow.out, '\n') == 2);
  CHECK(narrow.out.find("\"error\":") != std::string::npos);

  // Without its daemon the folder answers by the same weights, in float where the daemon may use int8
  // kernels.
  CHECK(nodes[0].stop() < 10s);
  const auto alone =
      run_node({"infer", "--dir", nodes[0].dir, (folder.path / "test.csv").string(), "--label", "65"});
  REQUIRE(alone.status == 0);
  std::istringstream before(answered.out), after(alone.out);
  for (std::string line, other; std::getline(before, line) && std::getline(after, other);) {
    const auto some = Json::parse(line)["probabilities"].get<std::vector<double>>();
    const auto others = Json::parse(other)["probabilities"].get<std::vector<double>>();
    REQUIRE(some.size() == others.size());
    for (std::size_t i = 0; i < some.size(); ++i) REQUIRE(some[i] == Approx(others[i]).margin(0.05));
  }
  nodes[0].start();
  CHECK(eventually([&] { return nodes[0].serves() == newest; }));

  // A training that would take hours does not keep a node from ending.
  coordinator.stop();
  coordinator.set("epochs", "1000");
  coordinator.start();
  coordinator.call("/v1/rounds", {{"count", 1}});
  REQUIRE(eventually([&] {
    const Json tasks = nodes[1].status()["tasks"];
    return !tasks.empty() && tasks[0]["state"] == "running";
  }));
  for (Node& node : nodes) CHECK(node.stop() < 10s);
  coordinator.stop();
}

}  // namespace
}  // namespace rivulet
