#include <sys/stat.h>

#include "protocol/keys.h"
#include "tests/catch.h"
#include "tests/cli/programs.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::tests;

namespace {

/// Status 2 (or the one given), nothing on standard output, and one line that has these words.
void check_refused(const Outcome& outcome, const std::string& words, int status = 2) {
  INFO(outcome.err);
  CHECK(outcome.status == status);
  CHECK(outcome.out.empty());
  CHECK(is_one_line(outcome.err, "rivulet"));
  CHECK(outcome.err.find(words) != std::string::npos);
}

constexpr const char* nobody = "http://127.0.0.1:1";  // tcpmux: nothing listens there.

}  // namespace

TEST_CASE("wrong usage has status 2 and one line that says where help is", "[cli]") {
  check_refused(operate({}), "see 'rivulet --help'");
  check_refused(operate({"fly"}), "fly");
  check_refused(operate({"model"}), "see 'rivulet model --help'");
  check_refused(operate({"model", "impor"}), "'impor' is not known here: see 'rivulet model --help'");
  check_refused(operate({"nodes", "--jsno"}), "'--jsno' is not known here");
  check_refused(operate({"token", "create", "--uses", "0"}), "--uses");
  check_refused(operate({"token", "create", "--uses", "many"}), "--uses");
  check_refused(operate({"token", "create", "--expires", "soon", "--admin", nobody}), "--expires: ");
  check_refused(operate({"token", "create", "--expires", "0s", "--admin", nobody}),
                "--expires is 0s: it must be from 1s to 366d");
  check_refused(operate({"token", "create", "--expires", "367d", "--admin", nobody}), "--expires is 367d");
  check_refused(operate({"node", "revoke"}), "KEY");
  check_refused(operate({"node", "revoke", "abc"}), "'abc' is no key");
  check_refused(operate({"node", "revoke", "0123456789abcdeg"}), "is no key");
  check_refused(operate({"node", "tag", "0123456789abcdef"}), "--none");
  check_refused(operate({"round", "start", "--count", "0"}), "--count");
  check_refused(operate({"round", "status", "first"}), "first");
  check_refused(operate({"model", "show", "-1"}), "-1");
  check_refused(operate({"model", "show", "0"}), "VERSION");
  check_refused(operate({"model", "import", "x", "--release-key", "y", "--epoch=-1"}), "--epoch");
  check_refused(operate({"model", "import", "spec.toml"}), "--release-key");
  check_refused(operate({"model", "export", "1", "--format", "tar", "--out", "x"}), "safetensors");
  check_refused(
      operate({"model", "distill", "s.toml", "--teacher", "0", "--data", "x", "--release-key", "k"}),
      "--teacher");
  check_refused(operate({"model", "distill", "s.toml", "--teacher", "1", "--release-key", "k"}), "--data");
  check_refused(operate({"model", "distill", "s.toml", "--teacher", "1", "--data", "x", "--release-key", "k",
                         "--epochs", "0"}),
                "--epochs");
  check_refused(operate({"model", "distill", "s.toml", "--teacher", "1", "--data", "x", "--release-key", "k",
                         "--soft-weight", "nan"}),
                "--soft-weight is nan");
  check_refused(operate({"model", "prune", "1"}), "--release-key");
  check_refused(operate({"model", "prune", "1", "--fraction", "0", "--release-key", "k"}), "--fraction is 0");
  check_refused(operate({"trust", "renew"}), "--root-key");
  // Not built yet, and so unknown.
  check_refused(operate({"rollout", "status"}), "'rollout' is not known here: see 'rivulet --help'");
}

TEST_CASE("help is printed with status 0, for the program and its commands", "[cli]") {
  const Outcome all = operate({"--help"});
  CHECK(all.status == 0);
  CHECK(all.err.empty());
  for (const char* command : {"token", "nodes", "node", "model", "round", "trust", "status", "audit"}) {
    CHECK(all.out.find(command) != std::string::npos);
  }
  const Outcome one = operate({"model", "import", "--help"});
  CHECK(one.status == 0);
  CHECK(one.out.find("--release-key") != std::string::npos);
}

TEST_CASE("without a coordinator the error says where it was looked for and how to start one", "[cli]") {
  const TemporaryFolder folder;
  const std::vector<std::string> token = {"RIVULET_ADMIN_TOKEN=0123456789abcdef"};
  check_refused(operate({"status", "--admin", nobody}, token),
                "no coordinator answers at 127.0.0.1:1: start it with 'rivulet-coordinator run", 1);
  check_refused(operate({"audit", "--admin", nobody}, token), "no coordinator answers at 127.0.0.1:1", 1);
  // The folder is there, but nothing runs in it.
  check_refused(operate({"--dir", folder.path.string(), "status"}, token),
                "no coordinator runs in " + folder.path.string(), 1);
  // A daemon that was killed left its run.json; options may also follow the command.
  tests::write(folder.path / "run.json", R"({"pid":1,"listen":"127.0.0.1:2","admin":"127.0.0.1:1"})");
  check_refused(operate({"status", "--dir", folder.path.string()}, token),
                "run --dir " + folder.path.string(), 1);
  tests::write(folder.path / "run.json", R"({"pid":1,"api":"127.0.0.1:1"})");
  check_refused(operate({"status", "--dir", folder.path.string()}, token), "is it a coordinator's folder?");
  check_refused(operate({"status", "--dir", (folder.path / "none").string()}, token), "is no folder");
  for (const char* address : {"127.0.0.1", "127.0.0.1:0", "https://127.0.0.1:7480", "127.0.0.1:99999"}) {
    check_refused(operate({"status", "--admin", address}, token), "http://HOST:PORT");
  }
}

TEST_CASE("an admin token that is missing, empty or open to others is refused", "[cli]") {
  const TemporaryFolder folder;
  check_refused(operate({"status", "--admin", nobody}), "no admin token");
  const std::string file = (folder.path / "admin.token").string();
  check_refused(operate({"status", "--admin", nobody, "--token-file", file}), file);
  tests::write(file, "secret-secret-secret\n");
  ::chmod(file.c_str(), 0644);
  const Outcome open = operate({"status", "--admin", nobody, "--token-file", file});
  check_refused(open, "chmod 600");
  CHECK(open.err.find("secret") == std::string::npos);
  check_refused(operate({"--dir", folder.path.string(), "--admin", nobody, "status"}), "chmod 600");
  ::chmod(file.c_str(), 0600);
  check_refused(operate({"--dir", folder.path.string(), "--admin", nobody, "status"}),
                "no coordinator answers", 1);
  tests::write(file, "\n");
  check_refused(operate({"status", "--admin", nobody, "--token-file", file}), "holds no token");
}

TEST_CASE("a key file that is missing, damaged or open to others is refused before anything is sent",
          "[cli]") {
  const TemporaryFolder folder;
  const std::string spec = (folder.path / "spec.toml").string();
  tests::write(spec, digits_spec());
  const std::string key = (folder.path / "release.key").string();
  const std::vector<std::string> import = {"model", "import", spec, "--release-key", key, "--admin", nobody};
  const std::vector<std::string> renew = {"trust", "renew", "--root-key", key, "--admin", nobody};
  check_refused(operate(import), "there is no release key at " + key);
  check_refused(operate(renew), "there is no root key at " + key);
  REQUIRE(SecretKey::generate().save(key));
  ::chmod(key.c_str(), 0640);
  check_refused(operate(import), key);
  check_refused(operate(renew), key);
  ::chmod(key.c_str(), 0600);
  const std::vector<std::string> token = {"RIVULET_ADMIN_TOKEN=0123456789abcdef"};
  check_refused(operate(import, token), "no coordinator answers", 1);
  tests::write(key, "not a key\n");
  check_refused(operate(import), key, 1);
}

TEST_CASE("a wrong specification is named with file, line and key", "[cli]") {
  const TemporaryFolder folder;
  const std::string spec = (folder.path / "spec.toml").string();
  const std::vector<std::string> import = {"model", "import",  spec,  "--release-key",
                                           "/none", "--admin", nobody};
  check_refused(operate(import), spec);
  tests::write(spec, digits_spec("[verison]\nsnapshot = \"int8\"\n"));
  check_refused(operate(import), "verison");
  tests::write(spec, "name = \"digits\"\n[input]\nshape = [64]\n[task]\nclasses = [\"0\"]\n");
  check_refused(operate(import), spec + ":5: task.classes");
  tests::write(spec, "name = \n");
  check_refused(operate(import), spec);
}
