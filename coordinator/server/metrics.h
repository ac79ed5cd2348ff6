#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/now.h"

namespace rivulet::coordinator {

struct State;

/// What Prometheus reads, in base units, under names rivulet_…; no label ever names a node. Thread-safe.
class ServerMetrics {
 public:
  ServerMetrics();
  ~ServerMetrics();

  void count_event(std::string_view event, std::string_view reason);
  /// One receipt for an update: "accepted", "duplicate" or "refused".
  void count_receipt(std::string_view receipt, std::string_view reason);
  /// The same for an evaluation report.
  void count_report(std::string_view receipt, std::string_view reason);
  /// A task that its node gave up.
  void count_declined(std::string_view type, std::string_view reason);
  /// A connection that was turned away or cut off by us.
  void count_refusal(std::string_view reason);
  /// A round that is over: "published", "refused" or "failed".
  void count_round(std::string_view result, double seconds);
  /// Bytes of content, from nodes or to them.
  void count_received(std::uint64_t bytes);
  void count_sent(std::uint64_t bytes);
  void observe_commit(double seconds);

  /// What is not counted but read at the moment of a scrape.
  struct Gauges {
    std::size_t connections = 0;
    std::size_t unauthenticated = 0;
    std::uint64_t blob_bytes = 0;
    std::uint64_t handshakes_failed = 0;
    std::uint64_t over_limit = 0;  ///< Connections closed at once, as too many were unauthenticated.
  };
  void show(const State& state, const Gauges& gauges);
  /// The text format 0.0.4 of Prometheus.
  [[nodiscard]] std::string text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rivulet::coordinator
