#pragma once

#include <functional>
#include <memory>
#include <string>

#include "coordinator/server/admin_desk.h"
#include "protocol/endpoint.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

/// The operator's HTTP API. Every call but the first three needs "Authorization: Bearer TOKEN", and these
/// three do when they come from another machine. Bodies are JSON unless said otherwise; an error is
/// {"error", "detail"} with a fitting status: 400 invalid, 401 no or a wrong token, 403 refused by a rule,
/// 404, 409 conflict, 413, 503 busy or stopping, 504 no answer in time, 507 the disk is full.
///
///   GET  /healthz, /readyz               {"status"}: it answers; it takes nodes and writes
///   GET  /metrics                        Prometheus text format
///   GET  /v1/status                      status_view
///   GET  /v1/nodes                       nodes_view
///   POST /v1/nodes/KEY/tag               {"tags": [TEXT…]} → {"key","state","tags"}; KEY is a unique prefix
///                                        of 8 or more hexadecimal digits
///   POST /v1/nodes/KEY/quarantine, release, revoke     → {"key","state","tags"}
///   POST /v1/tokens                      {"expires_s" = 3600, "uses" = 1} → {"token","id","expires","uses"}
///   GET  /v1/tokens                      tokens_view
///   POST /v1/tokens/ID/revoke            → {"id","used"}; ID is a unique prefix of 8 or more digits
///   GET  /v1/rounds, /v1/rounds/ID       rounds_view, round_view
///   POST /v1/rounds                      {"count" = 1, "wait" = false, "timeout_s" = 86400} →
///                                        {"first","last"}, or with `wait` when the last is over:
///                                        {"first","last","rounds":[round_view…],"stopped"?}
///   GET  /v1/versions, /v1/versions/N    versions_view, version_view
///   GET  /v1/versions/N/weights          w_t, float32 LE in the order of the layout; octets
///   GET  /v1/releases                    [{"id","name","imported","active","has_holdout","has_test"}]
///   GET  /v1/releases/ID                 the signed release, an encoded Envelope; octets
///   POST /v1/releases                    {"release","weights","holdout"?,"test"?} →
///   {"release","name","version"}
///                                        release: an encoded Envelope, weights: float32 LE of w_0, both in
///                                        Base64url; data: {"inputs","labels"}, inputs in Base64url of
///                                        float32 LE or as [[NUMBER…]…], labels as [INTEGER…]
///   GET  /v1/trust                       {"document":{…},"signed":SIGNED} ; SIGNED as in records.h
///   POST /v1/trust                       SIGNED → {"version","expires"}
///   GET  /v1/audit?from=SEQ              the log from an entry on (1), as JSON lines
class AdminApi {
 public:
  struct Options {
    Endpoint listen;
    std::string token;  ///< Not empty.
    std::size_t threads = 8;
    std::uint64_t body_bytes_max = 0;  ///< Of a release; other bodies may have 1 MiB.
  };

  /// Binds; start() begins to serve. @param desk outlives the object. @return conflict, invalid.
  static Result<std::unique_ptr<AdminApi>> open(Options options, AdminDesk& desk);
  /// Stops, and waits for the requests under way.
  ~AdminApi();

  /// @param stopped is called once, from a thread of its own, when no request is under way any more.
  void start(std::function<void()> stopped);
  /// Takes no more requests. Returns at once; any thread.
  void stop();
  [[nodiscard]] Endpoint local_endpoint() const;

 private:
  struct Impl;
  explicit AdminApi(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rivulet::coordinator
