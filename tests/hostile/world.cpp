#include "tests/hostile/world.h"

#include <sstream>

#include "protocol/token.h"

namespace rivulet {

using nlohmann::json;

namespace {

constexpr int uses_of_token = 1000;

}  // namespace

JoinSecret new_secret(RunningServer& server, int uses) {
  const json reply = server.post_json("/v1/tokens", {{"uses", uses}});
  const auto token = parse_token(reply.at("token").get<std::string>());
  REQUIRE(token.has_value());
  return token->secret;
}

HostileWorld::HostileWorld(const Change& change, const std::function<void(const FoundedFleet&)>& before)
    : config(fleet.config()) {
  LogLines::mark();  // The log is kept from before the server's first line.
  config.core.round.failure_pause = std::chrono::seconds(0);
  if (change) change(config);
  if (before) before(fleet);
  start();
  id = fleet_of(*server);
  secret_ = new_secret(*server, uses_of_token);
}

void HostileWorld::start() { server = std::make_unique<RunningServer>(fleet, config); }

Status HostileWorld::stop() {
  Status status = server->stop();
  server.reset();
  return status;
}

void HostileWorld::import() { import(ToyRelease(id, fleet.key("offline/release.key")).body); }

std::unique_ptr<Peer> HostileWorld::stranger() { return std::make_unique<Peer>(io, key_of(next_key_++)); }

void HostileWorld::session(Peer& peer, std::uint64_t samples, std::uint64_t holdout) {
  peer.dial(server->listen);
  std::ignore = peer.await<message::TrustChain>();
  peer.hello(id);
  std::ignore = peer.await<message::Welcome>();
  peer.send(message::Ready{0, 0, samples, holdout, {}, {}});
  std::ignore =
      peer.ask<message::NoContent>(message::Fetch{});  // Answered after it has heard that we are ready.
}

std::unique_ptr<Peer> HostileWorld::member(std::uint64_t samples, std::uint64_t holdout) {
  auto peer = stranger();
  peer->dial(server->listen);
  peer->enrol(id, secret_);
  std::ignore = peer->await<message::Enrolled>();
  session(*peer, samples, holdout);
  return peer;
}

std::vector<message::Task> HostileWorld::round(const std::vector<Peer*>& peers) {
  for (Peer* peer : peers) peer->heard.clear();
  server->post_json("/v1/rounds", {{"count", 1}});
  std::vector<message::Task> tasks;
  for (Peer* peer : peers) tasks.push_back(peer->await<message::Task>());
  return tasks;
}

json HostileWorld::ended_round() {
  json last;
  run_until(io, [&] {
    const json rounds = server->get_json("/v1/rounds");
    if (!rounds.empty()) last = rounds.back();
    const std::string state = last.is_null() ? "" : last.at("state").get<std::string>();
    return state == "published" || state == "refused" || state == "failed";
  });
  return last;
}

void HostileWorld::complete_honest_round() {
  kept.clear();
  run_until(io, [&] { return metric("rivulet_sessions") == 0; });
  if (server->get_json("/v1/versions").empty()) import();
  std::vector<float> expected = weights(head());
  const VersionNumber before = head();
  std::vector<Peer*> pair;
  for (int i = 0; i < 2; ++i) {
    kept.push_back(member());
    pair.push_back(kept.back().get());
  }
  const auto tasks = round(pair);
  pair[0]->offer(tasks[0], std::vector<float>(expected.size(), 0.5F), 10);
  pair[1]->offer(tasks[1], std::vector<float>(expected.size(), 0.25F), 30);
  CHECK(pair[0]->await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
  CHECK(pair[1]->await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
  const json ended = ended_round();
  INFO(ended.dump());
  REQUIRE(ended.at("state") == "published");
  REQUIRE(head() == before + 1);
  for (float& x : expected) x += 0.3125F;  // (10 * 0.5 + 30 * 0.25) / 40
  CHECK(weights(head()) == expected);
}

std::vector<float> HostileWorld::weights(VersionNumber version) {
  const HttpReply reply = server->get("/v1/versions/" + std::to_string(version) + "/weights");
  REQUIRE(reply.status == 200);
  std::vector<float> weights(reply.body.size() / sizeof(float));
  std::memcpy(weights.data(), reply.body.data(), weights.size() * sizeof(float));
  return weights;
}

VersionNumber HostileWorld::head() {
  return server->get_json("/v1/versions").back().at("version").get<VersionNumber>();
}

double HostileWorld::metric(const std::string& name, const std::vector<std::string>& labels) {
  const HttpReply reply = http(server->admin, "GET", "/metrics", "");
  REQUIRE(reply.status == 200);
  double sum = 0;
  std::istringstream lines(reply.body);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name + " ") && !line.starts_with(name + "{")) continue;
    const auto holds = [&](const std::string& label) { return line.find(label) != std::string::npos; };
    if (std::all_of(labels.begin(), labels.end(), holds)) sum += std::stod(line.substr(line.rfind(' ') + 1));
  }
  return sum;
}

void HostileWorld::await_metric(const std::string& name, const std::vector<std::string>& labels,
                                double value) {
  INFO(name << " of " << (labels.empty() ? "" : labels.front()) << ", wanted " << value);
  double seen = -1;
  run_until(io, [&] {
    seen = metric(name, labels);
    return seen >= value;
  });
  CHECK(seen == value);
}

Expected::Expected(HostileWorld& world, std::string metric, std::vector<std::string> labels,
                   std::vector<std::string> log)
    : world_(world),
      metric_(std::move(metric)),
      labels_(std::move(labels)),
      log_(std::move(log)),
      before_(world.metric(metric_, labels_)),
      mark_(LogLines::mark()) {}

void Expected::check() {
  world_.await_metric(metric_, labels_, before_ + 1);
  CHECK(LogLines::since(mark_, log_).size() == 1);
}

Expected expect_cut_off(HostileWorld& world, Reason reason) {
  const std::string word(name(reason));
  return {world, "rivulet_refusals_total", {"reason=\"" + word + "\""}, {" reason=" + word + " "}};
}

Expected expect_receipt(HostileWorld& world, const std::string& receipt, Reason reason, const char* metric) {
  const std::string word(name(reason));
  return {world,
          metric,
          {"receipt=\"" + receipt + "\"", "reason=\"" + word + "\""},
          {"_refused ", " reason=" + word + " "}};
}

}  // namespace rivulet
