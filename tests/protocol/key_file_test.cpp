#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>

#include "protocol/keys.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
namespace fs = std::filesystem;

namespace {

/// Asked before each fsync of this program: false lets it fail.
std::function<bool(bool of_folder)> on_sync;

}  // namespace

/// Takes the place of the C library's, so that a test sees what is synced, and when.
extern "C" int fsync(int descriptor) {
  struct stat info{};
  if (on_sync && ::fstat(descriptor, &info) == 0 && !on_sync(S_ISDIR(info.st_mode))) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

namespace {

struct Place {
  TemporaryFolder folder;
  fs::path file = folder.path / "node.key";
  SecretKey key = SecretKey::generate();

  ~Place() { on_sync = nullptr; }

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder.path)) names.push_back(entry.path().filename());
    return names;
  }
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a key's bytes are synced before it has its name, and its name after", "[protocol][keys]") {
  Place place;
  Names steps;
  on_sync = [&](bool of_folder) {
    steps.push_back(of_folder ? "folder" : "file");
    CHECK(fs::exists(place.file) == of_folder);
    const fs::path written = of_folder ? place.file : fs::path(place.file.string() + ".new");
    std::ifstream content(written);
    std::string line;
    CHECK(std::getline(content, line));
    CHECK(line == to_hex(place.key.seed()));
    return true;
  };
  REQUIRE(place.key.save(place.file));
  CHECK(steps == Names{"file", "folder"});
  CHECK(place.names() == Names{"node.key"});
}

TEST_CASE("a key that could not be made durable is not there", "[protocol][keys]") {
  Place place;
  for (const bool folder_fails : {false, true}) {
    CAPTURE(folder_fails);
    on_sync = [&](bool of_folder) { return of_folder != folder_fails; };
    const Status saved = place.key.save(place.file);
    REQUIRE_FALSE(saved);
    CHECK(saved.error().code == Errc::storage);
    CHECK(saved.error().detail.find(place.file.string()) != std::string::npos);
    CHECK(place.names().empty());
  }
  on_sync = nullptr;
  CHECK(place.key.save(place.file));
  CHECK(SecretKey::load(place.file).value().public_key() == place.key.public_key());
}

TEST_CASE("a process that dies or has no room while it writes a key leaves no key, and the next one makes it",
          "[protocol][keys]") {
  Place place;
  const bool dies = GENERATE(true, false);
  CAPTURE(dies);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    on_sync = [](bool) { return ::raise(SIGKILL) == 0; };
    const rlimit bytes_max{10, 10};  // The write ends there.
    if (!dies) ::setrlimit(RLIMIT_FSIZE, &bytes_max);
    const Status saved = place.key.save(place.file);
    ::_exit(!saved && saved.error().code == Errc::storage_full ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (dies) {
    CHECK(WIFSIGNALED(status));
    CHECK_FALSE(fs::exists(place.file));
  } else {
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(place.names().empty());
  }
  REQUIRE(place.key.save(place.file));
  CHECK(SecretKey::load(place.file).value().public_key() == place.key.public_key());
  CHECK(place.names() == Names{"node.key"});
}

TEST_CASE("what a crash left beside a key is neither used nor in the way", "[protocol][keys]") {
  Place place;
  const fs::path left = place.file.string() + ".new", elsewhere = place.folder.path / "elsewhere";
  SECTION("a file that others may read") {
    std::ofstream(left) << "half";
    REQUIRE(::chmod(left.c_str(), 0644) == 0);
    REQUIRE(place.key.save(place.file));
    CHECK(place.names() == Names{"node.key"});
  }
  SECTION("a link, which is not followed") {
    std::ofstream(elsewhere) << "of others";
    fs::create_symlink(elsewhere, left);
    REQUIRE(place.key.save(place.file));
    CHECK(fs::file_size(elsewhere) == 9);
    CHECK_FALSE(fs::is_symlink(place.file));
  }
  const auto mode = fs::status(place.file).permissions() & fs::perms::mask;
  CHECK(mode == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(SecretKey::load(place.file).value().public_key() == place.key.public_key());
}

TEST_CASE("a key never replaces another one, nor appears where there is no folder", "[protocol][keys]") {
  Place place;
  REQUIRE(place.key.save(place.file));
  const Status again = SecretKey::generate().save(place.file);
  REQUIRE_FALSE(again);
  CHECK(again.error().code == Errc::conflict);
  CHECK(again.error().detail.find("exists") != std::string::npos);
  CHECK(SecretKey::load(place.file).value().public_key() == place.key.public_key());
  CHECK(place.names() == Names{"node.key"});
  CHECK(place.key.save(place.folder.path / "none" / "node.key").error().code == Errc::storage);
}
