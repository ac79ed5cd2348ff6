#include "coordinator/server/server.h"

#include <unistd.h>

#include <fstream>

#include "sim/world/toy_model.h"
#include "tests/catch.h"
#include "tests/coordinator_server/server_rig.h"

using namespace rivulet;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

Result<std::unique_ptr<coordinator::Server>> open_on(const FoundedFleet& fleet,
                                                     coordinator::ConfigFile config) {
  return coordinator::Server::open(
      {.folder = fleet.folder, .config = std::move(config), .runner = std::make_unique<sim::ToyRunner>()});
}

}  // namespace

TEST_CASE("run.json and the ready line say where a server is, while it runs", "[coordinator][server]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const json ready = json::parse(server.ready_line);
  CHECK(ready ==
        json{{"ready", true}, {"listen", to_string(server.listen)}, {"admin", to_string(server.admin)}});
  CHECK(server.listen.port != 0);
  CHECK(server.admin.port != 0);
  json run;
  std::ifstream(fleet.folder / "run.json") >> run;
  CHECK(run ==
        json{{"pid", ::getpid()}, {"listen", to_string(server.listen)}, {"admin", to_string(server.admin)}});
  CHECK(server.stop().has_value());
  CHECK_FALSE(fs::exists(fleet.folder / "run.json"));
}

TEST_CASE("a folder has one server at a time", "[coordinator][server]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const auto second = open_on(fleet, fleet.config());
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().code == Errc::conflict);
  CHECK(second.error().detail.find(std::to_string(::getpid())) != std::string::npos);
  CHECK(server.get("/v1/status").status == 200);
  REQUIRE(server.stop().has_value());
}

TEST_CASE("an address that is taken is named", "[coordinator][server]") {
  const FoundedFleet one;
  const FoundedFleet other;
  RunningServer server(one);
  auto config = other.config();
  SECTION("for nodes") {
    config.server.listen = server.listen;
    const auto second = open_on(other, config);
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().code == Errc::conflict);
    CHECK(second.error().detail.find(to_string(server.listen)) != std::string::npos);
    CHECK(second.error().detail.find("set another listen under [coordinator] in " +
                                     (other.folder / "coordinator.toml").string()) != std::string::npos);
  }
  SECTION("for the operator") {
    config.server.admin = server.admin;
    const auto second = open_on(other, config);
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().code == Errc::conflict);
    CHECK(second.error().detail.find(to_string(server.admin)) != std::string::npos);
    CHECK(second.error().detail.find("set another admin under [coordinator] in " +
                                     (other.folder / "coordinator.toml").string()) != std::string::npos);
  }
}

TEST_CASE("a server needs nothing of the offline folder", "[coordinator][server]") {
  const FoundedFleet fleet;
  fs::remove_all(fleet.folder / "offline");
  RunningServer server(fleet);
  CHECK(server.get("/v1/status").status == 200);
}

TEST_CASE("a secret that is missing is named, with what to do", "[coordinator][server]") {
  const FoundedFleet fleet;
  const char* file = GENERATE("coordinator.key", "admin.token");
  CAPTURE(file);
  fs::remove(fleet.folder / file);
  const auto server = open_on(fleet, fleet.config());
  REQUIRE_FALSE(server.has_value());
  CHECK(server.error().code == Errc::not_found);
  CHECK(server.error().detail.find((fleet.folder / file).string() + ": restore it from your copy") !=
        std::string::npos);
}

TEST_CASE("a key that others may read is refused", "[coordinator][server]") {
  const FoundedFleet fleet;
  const char* file = GENERATE("coordinator.key", "admin.token");
  CAPTURE(file);
  fs::permissions(fleet.folder / file, fs::perms::group_read, fs::perm_options::add);
  const auto server = open_on(fleet, fleet.config());
  REQUIRE_FALSE(server.has_value());
  CHECK(server.error().code == Errc::permission);
}

TEST_CASE("a key that the trust document does not name is refused", "[coordinator][server]") {
  const FoundedFleet fleet;
  fs::copy_file(fleet.folder / "offline" / "root.key", fleet.folder / "coordinator.key",
                fs::copy_options::overwrite_existing);
  const auto server = open_on(fleet, fleet.config());
  REQUIRE_FALSE(server.has_value());
  CHECK(server.error().code == Errc::invalid);
}
