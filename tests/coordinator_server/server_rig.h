#pragma once

#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "coordinator/server/server.h"
#include "models/package/release.h"
#include "protocol/keys.h"
#include "tests/coordinator_server/http.h"
#include "tests/temporary_folder.h"

namespace rivulet {

/// A folder as `init` leaves it, and settings for a small, quick fleet on ports that the system picks.
struct FoundedFleet {
  TemporaryFolder parent;
  std::filesystem::path folder = parent.path / "coordinator";

  FoundedFleet();
  [[nodiscard]] coordinator::ConfigFile config() const;
  [[nodiscard]] SecretKey key(const std::string& file) const;
};

/// The real server on loopback, in a thread of its own, with a plain model in place of LibTorch.
class RunningServer {
 public:
  explicit RunningServer(const FoundedFleet& fleet) : RunningServer(fleet, fleet.config()) {}
  RunningServer(const FoundedFleet& fleet, coordinator::ConfigFile config);
  ~RunningServer();

  /// @return what run() ended with. Call it once.
  Status stop();
  /// With the admin token.
  HttpReply get(const std::string& path) { return http(admin, "GET", path, token); }
  HttpReply post(const std::string& path, const std::string& body = "") {
    return http(admin, "POST", path, token, body);
  }
  /// The body of a call that succeeds.
  nlohmann::json get_json(const std::string& path);
  nlohmann::json post_json(const std::string& path, const nlohmann::json& body);
  /// The value of a line of /metrics, such as `rivulet_refusals_total{reason="unknown_key"}`; 0 if there is
  /// none.
  double metric(const std::string& name);

  std::string ready_line;
  std::string token;
  Endpoint listen;
  Endpoint admin;

 private:
  std::unique_ptr<coordinator::Server> server_;
  std::future<Status> result_;
  std::thread thread_;
};

/// A softmax regression of 2 inputs and 3 classes, weights 0.5, 0.25, 0, -0.25 …, both forms fp32.
struct ToyRelease {
  Release release;
  std::vector<float> weights;
  nlohmann::json body;  ///< Of POST /v1/releases.

  ToyRelease(const FleetId& fleet, const SecretKey& release_key);
};

/// The fleet's id, as the API tells it.
FleetId fleet_of(RunningServer& server);

}  // namespace rivulet
