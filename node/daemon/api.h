#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "node/daemon/inference.h"
#include "node/daemon/metrics.h"
#include "node/daemon/sample_store.h"
#include "protocol/endpoint.h"
#include "protocol/result.h"

namespace rivulet::node {

/// What the API shows and does; all of it outlives the API and is thread-safe.
struct ApiParts {
  Inference& inference;
  SampleStore& samples;
  Metrics& metrics;
  std::string token;                             ///< For calls that write.
  std::function<Result<std::string>()> status;   ///< One JSON document.
  std::function<void(const Error&)> on_storage;  ///< Told when a sample met a failed disk.
  std::function<UtcTime()> utc;                  ///< The time that samples get.
};

struct ApiOptions {
  Endpoint listen{"127.0.0.1", 0};
  std::uint32_t threads = 8;
  std::uint64_t payload_bytes_max = 8 << 20;
  std::chrono::microseconds busy_poll_max{200};  ///< Of http::Limits.
};

/// The node's HTTP API on loopback:
///   POST /v1/infer    {"inputs":[[…],…]} or application/octet-stream (float32 LE) -> {"results":[…]};
///                     with Accept: application/octet-stream the bare outputs as float32 LE. 400 if no
///                     sample was in order, 503 before the first model.
///   POST /v1/samples  {"samples":[{"inputs":[…],"label":…,"id":…},…]} -> {"stored","duplicate","dropped",
///                     "refused":[{"index","reason"}]}; needs the token. Durable within a second, or when
///                     answered with ?sync=true. A label is a text or a number.
///   GET /v1/status, /healthz, /readyz (503 while no model serves), /metrics
/// Errors are {"error","detail"}. Web pages must not get here through a browser on this machine: a request
/// whose Host is not this machine (DNS rebinding), or whose Origin is not this API, is refused (403), and so
/// is a body that calls itself neither JSON nor octets (415). What curl -d and its like call a form is read
/// as JSON. Connections are kept; what else the server puts up with is in http::Limits.
class Api {
 public:
  /// Listens and answers when it returns. @return the errors of http::Server::start.
  static Result<std::unique_ptr<Api>> start(ApiParts parts, const ApiOptions& options);
  ~Api();
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  /// HOST:PORT.
  [[nodiscard]] const std::string& address() const;
  /// Ends all requests within seconds.
  void stop();

 private:
  struct Impl;
  explicit Api(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Whether a Host header names this machine: 127.0.0.1 or localhost, with or without a port.
bool is_local_host(std::string_view host);

}  // namespace rivulet::node
