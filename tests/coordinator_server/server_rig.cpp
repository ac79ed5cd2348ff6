#include "tests/coordinator_server/server_rig.h"

#include <stdexcept>

#include "coordinator/server/init.h"
#include "link/system_clock.h"
#include "sim/world/toy_model.h"
#include "storage/file.h"
#include "tests/catch.h"

namespace rivulet {

using nlohmann::json;

FoundedFleet::FoundedFleet() {
  const Status status = coordinator::init_folder({.folder = folder, .fleet = "river"}, system_now());
  INFO((status ? "" : status.error().detail));
  REQUIRE(status.has_value());
}

coordinator::ConfigFile FoundedFleet::config() const {
  auto config = coordinator::load_config(folder / "coordinator.toml");
  REQUIRE(config.has_value());
  config->server.listen = {"127.0.0.1", 0};
  config->server.admin = {"127.0.0.1", 0};
  config->core.round.cohort = 2;
  config->core.round.over_selection = 1;
  config->core.round.selection_patience = std::chrono::seconds(0);
  config->core.delta = {Codec::fp32, 100};
  config->core.validation.mode = coordinator::ValidationMode::none;
  return *config;
}

SecretKey FoundedFleet::key(const std::string& file) const {
  auto loaded = SecretKey::load(folder / file);
  REQUIRE(loaded.has_value());
  return std::move(*loaded);
}

RunningServer::RunningServer(const FoundedFleet& fleet, coordinator::ConfigFile config) {
  auto opened = coordinator::Server::open(
      {.folder = fleet.folder, .config = std::move(config), .runner = std::make_unique<sim::ToyRunner>()});
  INFO((opened ? "" : opened.error().detail));
  REQUIRE(opened.has_value());
  server_ = std::move(*opened);
  listen = server_->listen();
  admin = server_->admin();
  const auto text = read_file(fleet.folder / "admin.token", 4096);
  REQUIRE(text.has_value());
  token = text_of(*text).substr(0, text->size() - 1);

  std::promise<std::string> ready;
  std::future<std::string> is_ready = ready.get_future();
  std::packaged_task<Status()> task(
      [this, &ready] { return server_->run([&](const std::string& line) { ready.set_value(line); }); });
  result_ = task.get_future();
  thread_ = std::thread(std::move(task));
  ready_line = is_ready.get();
}

RunningServer::~RunningServer() {
  if (thread_.joinable()) std::ignore = stop();
}

Status RunningServer::stop() {
  server_->stop();
  thread_.join();
  server_.reset();
  return result_.get();
}

json RunningServer::get_json(const std::string& path) {
  const HttpReply reply = get(path);
  INFO(path << ": " << reply.body);
  REQUIRE(reply.status == 200);
  return json::parse(reply.body);
}

json RunningServer::post_json(const std::string& path, const json& body) {
  const HttpReply reply = post(path, body.dump());
  // No assertion: threads that wait for rounds call this, and Catch's belong to the test's own.
  if (reply.status != 200) throw std::runtime_error(path + ": " + reply.body);
  return json::parse(reply.body);
}

double RunningServer::metric(const std::string& name) {
  const HttpReply reply = http(admin, "GET", "/metrics", "");
  REQUIRE(reply.status == 200);
  const auto at = reply.body.find("\n" + name + " ");
  return at == std::string::npos ? 0 : std::stod(reply.body.substr(at + name.size() + 2));
}

ToyRelease::ToyRelease(const FleetId& fleet, const SecretKey& release_key) {
  release.fleet = fleet;
  release.name = "toy";
  release.architecture = {"mlp", {}, {2}, 3};
  release.layout = sim::toy_layout(2, 3);
  release.classes = {"a", "b", "c"};
  release.snapshot = SnapshotForm::fp32;
  release.recipes = {"fp32", "int8"};
  release.known_inputs = {0.0F, 1.0F};
  release.limits.max_distance = 1000;
  release.created = system_now().utc;
  release.limits.expires = release.created + std::chrono::days(30);
  for (std::size_t i = 0; i < release.layout.size(); ++i)
    weights.push_back(0.5F - 0.25F * static_cast<float>(i));
  release.initial_weights = content_id_of(std::as_bytes(std::span(weights)));
  release.initial_weights_hash = weights_hash_of(weights);
  body = {{"release", to_base64url(encode(seal(release_key, Context::release, encode(release))))},
          {"weights", to_base64url(std::as_bytes(std::span(weights)))}};
}

FleetId fleet_of(RunningServer& server) {
  return FleetId::from_hex(server.get_json("/v1/status").at("fleet_id").get<std::string>()).value();
}

}  // namespace rivulet
