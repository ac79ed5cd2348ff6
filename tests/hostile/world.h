#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/coordinator_server/server_rig.h"
#include "tests/hostile/peer.h"
#include "tests/log_lines.h"

namespace rivulet {

/// The real coordinator on loopback with a model of 9 parameters (2 inputs, 3 classes), and whoever comes.
class HostileWorld {
 public:
  using Change = std::function<void(coordinator::ConfigFile& config)>;

  /// @param before what happens to the folder before the server starts.
  explicit HostileWorld(const Change& change = {},
                        const std::function<void(const FoundedFleet&)>& before = {});

  /// Imports a release, the toy one if none is given.
  void import();
  void import(const nlohmann::json& body) { server->post_json("/v1/releases", body); }
  /// The server goes, what is on disk stays. @return what run() ended with.
  Status stop();
  void start();

  [[nodiscard]] std::unique_ptr<Peer> stranger();
  /// Enrolled, in a session, and ready with these counts of samples.
  [[nodiscard]] std::unique_ptr<Peer> member(std::uint64_t samples = 10, std::uint64_t holdout = 0);
  /// A new session of a member.
  void session(Peer& peer, std::uint64_t samples = 10, std::uint64_t holdout = 0);
  /// Starts one round and gives each peer's task.
  std::vector<message::Task> round(const std::vector<Peer*>& peers);
  /// The newest round, once it is over.
  nlohmann::json ended_round();
  /// Two new members bring an update each, which are all that a new version is made of. For a time when
  /// nobody else is connected.
  void complete_honest_round();
  [[nodiscard]] std::vector<float> weights(VersionNumber version);
  /// The newest one.
  [[nodiscard]] VersionNumber head();

  /// The sum over the lines of /metrics with this name whose labels hold all of `labels`, e.g.
  /// `reason="idle"`.
  double metric(const std::string& name, const std::vector<std::string>& labels = {});
  void await_metric(const std::string& name, const std::vector<std::string>& labels, double value);

  FoundedFleet fleet;
  asio::io_context io;
  coordinator::ConfigFile config;
  std::unique_ptr<RunningServer> server;
  FleetId id;
  std::vector<std::unique_ptr<Peer>> kept;  ///< Honest ones that stay to the end.

 private:
  unsigned char next_key_ = 1;
  JoinSecret secret_;
};

/// From now on one thing is expected: one more of a metric, and one line of the log with the reason.
class Expected {
 public:
  Expected(HostileWorld& world, std::string metric, std::vector<std::string> labels,
           std::vector<std::string> log);
  /// Waits for the metric and checks both.
  void check();

 private:
  HostileWorld& world_;
  std::string metric_;
  std::vector<std::string> labels_;
  std::vector<std::string> log_;
  double before_;
  std::size_t mark_;
};

/// One more connection that is refused for this reason.
Expected expect_cut_off(HostileWorld& world, Reason reason);
/// One more receipt, "refused" or "duplicate", with this reason.
Expected expect_receipt(HostileWorld& world, const std::string& receipt, Reason reason,
                        const char* metric = "rivulet_updates_total");

JoinSecret new_secret(RunningServer& server, int uses);

}  // namespace rivulet
