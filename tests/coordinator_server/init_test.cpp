#include "coordinator/server/init.h"

#include <fstream>
#include <map>

#include "link/system_clock.h"
#include "tests/catch.h"
#include "tests/coordinator_server/server_rig.h"

using namespace rivulet;
namespace fs = std::filesystem;

namespace {

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path().string()] = std::string(std::istreambuf_iterator<char>(file), {});
  }
  return files;
}

}  // namespace

TEST_CASE("init writes secrets that nobody else may read", "[coordinator][init]") {
  const FoundedFleet fleet;
  for (const char* file : {"coordinator.key", "admin.token", "offline/root.key", "offline/release.key"}) {
    CAPTURE(file);
    CHECK((fs::status(fleet.folder / file).permissions() & fs::perms::mask) ==
          (fs::perms::owner_read | fs::perms::owner_write));
  }
  CHECK(fs::exists(fleet.folder / "coordinator.toml"));
}

TEST_CASE("init leaves a folder that holds anything as it is", "[coordinator][init]") {
  const FoundedFleet fleet;
  const auto before = contents(fleet.folder);
  const Status again = coordinator::init_folder({.folder = fleet.folder}, system_now());
  REQUIRE_FALSE(again.has_value());
  CHECK(again.error().code == Errc::conflict);
  CHECK(contents(fleet.folder) == before);

  const TemporaryFolder other;
  std::ofstream(other.path / "diary.txt") << "mine";
  CHECK(coordinator::init_folder({.folder = other.path}, system_now()).error().code == Errc::conflict);
  CHECK(contents(other.path).size() == 1);
}

TEST_CASE("init takes an empty folder, and refuses a name that is none", "[coordinator][init]") {
  const TemporaryFolder folder;
  CHECK(coordinator::init_folder({.folder = folder.path, .fleet = "two words"}, system_now()).error().code ==
        Errc::invalid);
  CHECK(fs::is_empty(folder.path));
  CHECK(coordinator::init_folder({.folder = folder.path}, system_now()).has_value());
}

TEST_CASE("two fleets share neither keys nor id", "[coordinator][init]") {
  const FoundedFleet one;
  const FoundedFleet other;
  CHECK(one.key("coordinator.key").public_key() != other.key("coordinator.key").public_key());
  RunningServer first(one);
  RunningServer second(other);
  CHECK(fleet_of(first) != fleet_of(second));
  CHECK(first.token != second.token);
}
