#include <nlohmann/json.hpp>

#include "protocol/keys.h"
#include "protocol/token.h"
#include "tests/catch.h"
#include "tests/cli/programs.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::tests;
using nlohmann::json;

namespace {

bool has_numpy() { return run("/usr/bin/python3", {"-c", "import numpy"}).status == 0; }

/// A founded fleet, without its daemon.
struct Fleet {
  TemporaryFolder folder;
  std::string dir = (folder.path / "fleet").string();

  Fleet() {
    const Outcome init =
        run(program("rivulet-coordinator"),
            {"init", "--dir", dir, "--fleet", "test", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"});
    INFO(init.err);
    REQUIRE(init.status == 0);
  }
  [[nodiscard]] std::string offline(const char* key) const { return dir + "/offline/" + key; }
  /// Of a command that must succeed.
  [[nodiscard]] std::string ask(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--dir", dir});
    const Outcome outcome = operate(arguments);
    INFO(outcome.err);
    REQUIRE(outcome.status == 0);
    CHECK(outcome.err.empty());
    return outcome.out;
  }
  [[nodiscard]] json ask_json(std::vector<std::string> arguments) const {
    arguments.push_back("--json");
    return json::parse(ask(std::move(arguments)));
  }
  void check_refused(std::vector<std::string> arguments, int status, const std::string& words) const {
    arguments.insert(arguments.begin(), {"--dir", dir});
    const Outcome outcome = operate(arguments);
    INFO(outcome.err);
    CHECK(outcome.status == status);
    CHECK(is_one_line(outcome.err, "rivulet"));
    CHECK(outcome.err.find(words) != std::string::npos);
  }
};

/// A network with dropout, traced: an import takes it with a note.
constexpr const char* trace = R"(
import sys, torch
from torch import nn
network = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Dropout(), nn.Linear(8, 10)).eval()
torch.jit.trace(network, torch.rand(4, 64)).save(sys.argv[1])
)";

/// Recomputes the accuracy from what was exported; prints it.
constexpr const char* recompute = R"(
import csv, gzip, sys
import numpy as np
z = np.load(sys.argv[1], allow_pickle=False)
rows = np.array(list(csv.reader(gzip.open(sys.argv[2], 'rt'))), dtype=np.float64)
x = ((rows[:, :64].astype(np.float32) - z['preprocessing.mean']) / z['preprocessing.scale']).astype(np.float32)
x = np.maximum(x @ z['fc1.weight'].T + z['fc1.bias'], 0)
x = x @ z['fc2.weight'].T + z['fc2.bias']
assert z['classes'].tolist() == [str(i) for i in range(10)], z['classes']
assert z['fc1.weight'].shape == (32, 64) and z['fc2.bias'].shape == (10,)
print(repr(float(np.mean(np.argmax(x, axis=1) == rows[:, 64]))))
)";

}  // namespace

TEST_CASE("an operator founds a fleet, imports a model, exports it and checks the log",
          "[cli][coordinator]") {
  const Fleet fleet;
  Daemon daemon(program("rivulet-coordinator"), {"run", "--dir", fleet.dir});
  REQUIRE(json::parse(daemon.ready()).at("ready") == true);

  const std::string token = fleet.ask({"token", "create", "--expires", "2h", "--uses", "3"});
  REQUIRE(token.ends_with('\n'));
  CHECK(parse_token(token.substr(0, token.size() - 1)).has_value());
  const json tokens = fleet.ask_json({"token", "list"});
  REQUIRE(tokens.size() == 1);
  const std::string id = tokens[0].at("id");
  CHECK(fleet.ask({"token", "list"}).find(id.substr(0, 16)) != std::string::npos);
  fleet.check_refused({"token", "revoke", "token"}, 2, "rivulet token list");
  CHECK(fleet.ask({"token", "revoke", id.substr(0, 16)}).find("revoked") != std::string::npos);
  fleet.check_refused({"token", "revoke", id}, 1, id);
  CHECK(fleet.ask_json({"token", "list"}) == json::array());
  CHECK(fleet.ask_json({"nodes"}) == json::array());
  CHECK(fleet.ask_json({"model", "list"}) == json::array());
  CHECK(fleet.ask({"status"}).find("import a model with") != std::string::npos);
  fleet.check_refused({"round", "start"}, 1, "model import");
  fleet.check_refused({"round", "status"}, 1, "no round has run yet");

  const auto spec = fleet.folder.path / "digits.toml";
  tests::write(spec, digits_spec());
  const std::string imported =
      fleet.ask({"model", "import", spec.string(), "--release-key", fleet.offline("release.key")});
  CHECK(imported.find("of digits is version 1: 2410 parameters in 4 tensors") != std::string::npos);
  const json versions = fleet.ask_json({"model", "list"});
  REQUIRE(versions.size() == 1);
  CHECK(versions[0].at("version") == 1);
  CHECK(versions[0].at("parent") == 0);
  CHECK(versions[0].at("variants").size() == 2);
  const json shown = fleet.ask_json({"model", "show", "1"});
  CHECK(shown.at("form") == "int8");
  CHECK(shown.at("variants")[1].at("int8_form") == "static");
  CHECK(shown.at("variants")[1].at("left_in_float") == json::array());
  CHECK(shown.at("not_published") == json::array());
  CHECK(fleet.ask({"model", "show", "1"}).find("  static  ") != std::string::npos);
  CHECK(fleet.ask({"model", "show", "1"}).find(shown.at("weights_hash").get<std::string>()) !=
        std::string::npos);
  CHECK(fleet.ask({"model", "list"}).find("int8") != std::string::npos);
  CHECK(fleet.ask({"status"}).find("digits") != std::string::npos);

  const auto npz = fleet.folder.path / "model.npz";
  CHECK(fleet.ask({"model", "export", "1", "--format", "npz", "--out", npz.string()}).empty());
  if (has_numpy()) {
    const auto script = fleet.folder.path / "recompute.py";
    tests::write(script, recompute);
    const Outcome numpy =
        run("/usr/bin/python3", {script.string(), npz.string(), "data/digits/digits.csv.gz"});
    INFO(numpy.err);
    REQUIRE(numpy.status == 0);
    CHECK(std::abs(std::stod(numpy.out) - versions[0].at("metrics").at("accuracy").get<double>()) < 1e-6);
  } else {
    WARN("skipped: /usr/bin/python3 has no numpy (install python3-numpy)");
  }
  const auto local = fleet.folder.path / "local.toml";
  tests::write(
      local,
      "name = \"digits\"\n[model]\narchitecture = \"mobilenet_v2\"\nwidth = 0.1\nbatch_norm = \"local\"\n"
      "[input]\nshape = [1, 8, 8]\n[task]\nclasses = [\"even\", \"odd\"]\n");
  CHECK(fleet.ask({"model", "import", local.string(), "--release-key", fleet.offline("release.key")})
            .find("of digits is version 2") != std::string::npos);
  CHECK(fleet.ask({"model", "show", "2"}).find("  own  ") != std::string::npos);
  const Outcome noted =
      operate({"--dir", fleet.dir, "model", "export", "2", "--format", "npz", "--out", npz.string()});
  CHECK(noted.status == 0);
  CHECK(noted.err.starts_with("rivulet: note: version 2 has batch_norm = \"local\""));
  fleet.check_refused({"model", "export", "3", "--out", npz.string()}, 1, "no version 3");
  fleet.check_refused({"model", "show", "9"}, 1, "no version 9");
  fleet.check_refused({"node", "revoke", "0123456789"}, 1, "0123456789");

  CHECK(fleet.ask({"audit", "--verify"}).find("the audit log is intact") != std::string::npos);
  std::string log = fleet.ask({"audit"});
  const auto saved = fleet.folder.path / "audit.jsonl";
  tests::write(saved, log);
  CHECK(operate({"audit", "--verify", "--file", saved.string()}).status == 0);
  const auto at = log.find("\"token_created\"");
  REQUIRE(at != std::string::npos);
  const auto entry = std::count(log.begin(), log.begin() + static_cast<std::ptrdiff_t>(at), '\n') + 1;
  log[at + 1] = 'T';
  tests::write(saved, log);
  fleet.check_refused({"audit", "--verify", "--file", saved.string()}, 1,
                      "audit entry " + std::to_string(entry) + " ");
  CHECK(daemon.stop() == 0);
  fleet.check_refused({"status"}, 1, "no coordinator runs in " + fleet.dir);
}

TEST_CASE("what the trial of a network found is said before it is published, and if it is refused then",
          "[cli][coordinator]") {
  const Fleet fleet;
  const auto script = fleet.folder.path / "trace.py";
  tests::write(script, trace);
  const auto file = fleet.folder.path / "traced.pt";
  if (run("/usr/bin/python3", {"-W", "ignore", script.string(), file.string()}).status != 0) {
    WARN("skipped: /usr/bin/python3 has no torch (install python3-torch)");
    return;
  }
  Daemon daemon(program("rivulet-coordinator"), {"run", "--dir", fleet.dir});
  REQUIRE(json::parse(daemon.ready()).at("ready") == true);
  const auto spec = fleet.folder.path / "traced.toml";
  std::string text = digits_spec();
  const std::string built_in = "architecture = \"mlp\"\nhidden = [32]";
  text.replace(text.find(built_in), built_in.size(), "architecture = \"torchscript\"\npath = \"traced.pt\"");
  tests::write(spec, text);
  const auto import = [&](const char* epoch) {
    return operate({"--dir", fleet.dir, "model", "import", spec.string(), "--release-key",
                    fleet.offline("release.key"), "--epoch", epoch});
  };
  const std::string note = "rivulet: note: its aten::dropout never works as in training";
  const Outcome taken = import("2");
  INFO(taken.err);
  CHECK(taken.status == 0);
  CHECK(taken.err.starts_with(note));
  const Outcome refused = import("1");
  INFO(refused.err);
  CHECK(refused.status == 1);
  CHECK(refused.err.starts_with(note));
  CHECK(refused.err.find("the release has epoch 1") != std::string::npos);
}

TEST_CASE("a wrong token or key gets nowhere, and the trust document changes hands", "[cli][coordinator]") {
  const Fleet fleet;
  Daemon daemon(program("rivulet-coordinator"), {"run", "--dir", fleet.dir});
  REQUIRE(json::parse(daemon.ready()).at("ready") == true);
  const std::string admin = json::parse(daemon.ready()).at("admin");
  const Outcome stranger =
      operate({"--admin", admin, "nodes"}, {"RIVULET_ADMIN_TOKEN=not-the-one-of-this-coordinator"});
  CHECK(stranger.status == 2);
  CHECK(is_one_line(stranger.err, "rivulet"));
  CHECK(stranger.err.find("not-the-one") == std::string::npos);
  CHECK(
      operate({"--admin", admin, "audit"}, {"RIVULET_ADMIN_TOKEN=not-the-one-of-this-coordinator"}).status ==
      2);

  const auto spec = fleet.folder.path / "digits.toml";
  tests::write(spec, digits_spec());
  const auto other = fleet.folder.path / "other.key";
  REQUIRE(SecretKey::generate().save(other));
  fleet.check_refused({"model", "import", spec.string(), "--release-key", other.string()}, 1,
                      "is no release key");
  tests::write(spec, digits_spec("[limits]\nexpires = 5\n"));
  fleet.check_refused({"model", "import", spec.string(), "--release-key", fleet.offline("release.key")}, 2,
                      "limits.expires");
  fleet.check_refused({"trust", "renew", "--root-key", other.string()}, 1, "the fleet's root is");

  const std::string root = fleet.offline("root.key");
  CHECK(fleet.ask_json({"trust", "show"}).at("version") == 1);
  CHECK(fleet.ask({"trust", "renew", "--root-key", root, "--expires", "30d"}).find("trust document 2 ") == 0);
  const json renewed = fleet.ask_json({"trust", "show", "--root-key", root});
  CHECK(renewed.at("version") == 2);
  const auto fresh = fleet.folder.path / "root-2.key";
  CHECK(fleet.ask({"trust", "rotate", "--root-key", root, "--new-root-key", fresh.string()})
            .find("trust document 3 ") == 0);
  const json rotated = fleet.ask_json({"trust", "show", "--root-key", fresh.string()});
  CHECK(rotated.at("root") != renewed.at("root"));
  CHECK(rotated.at("release_keys") == renewed.at("release_keys"));
  fleet.check_refused({"trust", "renew", "--root-key", root}, 1, "the fleet's root is");
  fleet.check_refused({"trust", "rotate", "--root-key", fresh.string(), "--new-root-key", fresh.string()}, 2,
                      "already");
  CHECK(fleet.ask({"audit", "--verify"}).find("intact") != std::string::npos);
}

TEST_CASE("a secret that others may read is wrong usage, whichever program it is shown to",
          "[cli][coordinator]") {
  const Fleet fleet;
  for (const char* secret : {"coordinator.key", "admin.token"}) {
    CAPTURE(secret);
    const auto file = fleet.folder.path / "fleet" / secret;
    std::filesystem::permissions(file, std::filesystem::perms::group_read,
                                 std::filesystem::perm_options::add);
    const Outcome loose = run(program("rivulet-coordinator"), {"run", "--dir", fleet.dir});
    INFO(loose.err);
    CHECK(loose.status == 2);
    CHECK(is_one_line(loose.err, "rivulet-coordinator"));
    CHECK(loose.err.find(file.string()) != std::string::npos);
    std::filesystem::permissions(file, std::filesystem::perms::group_read,
                                 std::filesystem::perm_options::remove);
  }
}

TEST_CASE("who waits for a round that fails is told so, and why", "[cli][coordinator]") {
  const Fleet fleet;
  const auto file = fleet.folder.path / "fleet" / "coordinator.toml";
  std::string config = contents(file);
  for (const std::string key : {"selection_patience_s", "selection_deadline_s"}) {
    const auto value = config.find(" = ", config.find(key)) + 3;
    config.replace(value, config.find(' ', value) - value, "1");
  }
  tests::write(file, config);
  Daemon daemon(program("rivulet-coordinator"), {"run", "--dir", fleet.dir});
  REQUIRE(json::parse(daemon.ready()).at("ready") == true);
  const auto spec = fleet.folder.path / "digits.toml";
  tests::write(spec, digits_spec());
  CHECK(fleet.ask({"model", "import", spec.string(), "--release-key", fleet.offline("release.key")})
            .find("version 1") != std::string::npos);

  // Nobody has joined.
  const Outcome waited = operate({"--dir", fleet.dir, "round", "start", "--wait"});
  INFO(waited.err);
  CHECK(waited.status == 1);
  CHECK(waited.out.find("round 1: failed: ") == 0);
  CHECK(is_one_line(waited.err, "rivulet"));
  CHECK(waited.err.find("1 of 1 rounds published no version") != std::string::npos);
  const json rounds = fleet.ask_json({"round", "list"});
  REQUIRE(rounds.size() == 1);
  CHECK(rounds[0].at("state") == "failed");
  CHECK(fleet.ask_json({"round", "status", "1"}) == rounds[0]);
  CHECK(fleet.ask({"round", "list"}).find("failed: ") != std::string::npos);
  fleet.check_refused({"round", "status", "7"}, 1, "round 7");
}
