#include "coordinator/server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>

#include "coordinator/core/coordinator.h"
#include "protocol/reason.h"

namespace rivulet::coordinator {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

const Histogram::BucketBoundaries commit_seconds{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                                 0.05,   0.1,   0.25,   1,     5};
const Histogram::BucketBoundaries round_seconds{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400};

double unix_seconds(UtcTime time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

}  // namespace

struct ServerMetrics::Impl {
  prometheus::Registry registry;

  Family<Counter>& events =
      counter("rivulet_events_total", "What happened, by event and reason, as in the log.");
  Family<Counter>& updates = counter("rivulet_updates_total", "Receipts for updates, by receipt and reason.");
  Family<Counter>& reports =
      counter("rivulet_reports_total", "Receipts for evaluation reports, by receipt and reason.");
  Family<Counter>& declined =
      counter("rivulet_tasks_declined_total", "Tasks that nodes gave up, by type and reason.");
  Family<Counter>& refusals =
      counter("rivulet_refusals_total", "Connections that were turned away or cut off, by reason.");
  Family<Counter>& rounds = counter("rivulet_rounds_total", "Rounds that are over, by result.");
  Family<Counter>& content =
      counter("rivulet_content_bytes_total", "Bytes of models and updates, by direction.");
  Counter& received = content.Add({{"direction", "in"}});
  Counter& sent = content.Add({{"direction", "out"}});
  Histogram& commit =
      histogram("rivulet_commit_duration_seconds", "Synced commits of the store.", commit_seconds);
  Histogram& round = histogram("rivulet_round_duration_seconds", "Rounds from start to end.", round_seconds);

  Family<Gauge>& nodes = gauge("rivulet_nodes", "Nodes of the fleet, by state.");
  Gauge& sessions = gauge("rivulet_sessions", "Active nodes that are connected.").Add({});
  Gauge& connections = gauge("rivulet_connections", "Connections after their TLS handshake.").Add({});
  Gauge& unauthenticated =
      gauge("rivulet_connections_unauthenticated", "Connections that have not shown who they are.").Add({});
  Counter& handshakes_failed =
      counter("rivulet_handshakes_failed_total", "TLS handshakes that failed.").Add({});
  Counter& over_limit = counter("rivulet_connections_over_limit_total",
                                "Connections closed at once, as too many were strangers.")
                            .Add({});
  Gauge& version = gauge("rivulet_version", "The version that the fleet is to serve.").Add({});
  Gauge& round_number = gauge("rivulet_round", "The round that was started last.").Add({});
  Gauge& schedule_stopped =
      gauge("rivulet_schedule_stopped", "1 while the schedule stands still for a reason, else 0.").Add({});
  Family<Gauge>& accuracy =
      gauge("rivulet_version_accuracy_ratio", "Accuracy of the newest version, from 0 to 1.");
  Family<Gauge>& loss = gauge("rivulet_version_loss", "Mean loss of the newest version.");
  Gauge& blobs = gauge("rivulet_blob_bytes", "Models and updates on the disk.").Add({});
  Gauge& storage = gauge("rivulet_storage_writable", "1 while the store takes writes, else 0.").Add({});
  Gauge& trust =
      gauge("rivulet_trust_expires_timestamp_seconds", "When the trust document expires, as Unix time.")
          .Add({});
  Family<Gauge>& release =
      gauge("rivulet_release_expires_timestamp_seconds", "When the active release expires, as Unix time.");

  Impl();

 private:
  /// One series for each of these reasons.
  static void begin(Family<Counter>& family, std::map<std::string, std::string> labels, Reason first,
                    Reason last);
  Family<Counter>& counter(const char* name, const char* help) {
    return BuildCounter().Name(name).Help(help).Register(registry);
  }
  Family<Gauge>& gauge(const char* name, const char* help) {
    return BuildGauge().Name(name).Help(help).Register(registry);
  }
  Histogram& histogram(const char* name, const char* help, const Histogram::BucketBoundaries& boundaries) {
    return BuildHistogram().Name(name).Help(help).Register(registry).Add({}, boundaries);
  }
};

void ServerMetrics::Impl::begin(Family<Counter>& family, std::map<std::string, std::string> labels,
                                Reason first, Reason last) {
  for (auto number = static_cast<std::uint16_t>(first); number <= static_cast<std::uint16_t>(last);
       ++number) {
    const std::string_view reason = rivulet::name(static_cast<Reason>(number));
    if (reason == "unknown") continue;
    labels["reason"] = reason;
    family.Add(labels);
  }
}

/// Prometheus sees no increase in a series that begins with its first count.
ServerMetrics::Impl::Impl() {
  for (const char* result : {"published", "refused", "failed"}) rounds.Add({{"result", result}});
  for (Family<Counter>* receipts : {&updates, &reports}) {
    receipts->Add({{"receipt", "accepted"}, {"reason", ""}});
    receipts->Add(
        {{"receipt", "duplicate"}, {"reason", std::string(rivulet::name(Reason::duplicate_content))}});
    begin(*receipts, {{"receipt", "refused"}}, Reason::unknown_task, Reason::bad_report);
    receipts->Add({{"receipt", "refused"}, {"reason", std::string(rivulet::name(Reason::malformed_frame))}});
  }
  for (const char* type : {"train", "evaluate"}) {
    begin(declined, {{"type", type}}, Reason::too_large, Reason::not_finite);
    begin(declined, {{"type", type}}, Reason::storage_full, Reason::overloaded);
    begin(declined, {{"type", type}}, Reason::known_answers_wrong, Reason::too_late);
  }
  begin(refusals, {}, Reason::unknown_key, Reason::untrusted);
  begin(refusals, {}, Reason::storage_full, Reason::shutting_down);
  for (const char* event :
       {"candidate_refused", "publication_refused", "round_failed", "schedule_stopped", "variant_left_out"}) {
    events.Add({{"event", event}, {"reason", ""}});
  }
  begin(events, {{"event", "version_not_activated"}}, Reason::known_answers_wrong, Reason::bad_manifest);
}

ServerMetrics::ServerMetrics() : impl_(std::make_unique<Impl>()) {}
ServerMetrics::~ServerMetrics() = default;

void ServerMetrics::count_event(std::string_view event, std::string_view reason) {
  impl_->events.Add({{"event", std::string(event)}, {"reason", std::string(reason)}}).Increment();
}

void ServerMetrics::count_receipt(std::string_view receipt, std::string_view reason) {
  impl_->updates.Add({{"receipt", std::string(receipt)}, {"reason", std::string(reason)}}).Increment();
}

void ServerMetrics::count_report(std::string_view receipt, std::string_view reason) {
  impl_->reports.Add({{"receipt", std::string(receipt)}, {"reason", std::string(reason)}}).Increment();
}

void ServerMetrics::count_declined(std::string_view type, std::string_view reason) {
  impl_->declined.Add({{"type", std::string(type)}, {"reason", std::string(reason)}}).Increment();
}

void ServerMetrics::count_refusal(std::string_view reason) {
  impl_->refusals.Add({{"reason", std::string(reason)}}).Increment();
}

void ServerMetrics::count_round(std::string_view result, double seconds) {
  impl_->rounds.Add({{"result", std::string(result)}}).Increment();
  impl_->round.Observe(seconds);
}

void ServerMetrics::count_received(std::uint64_t bytes) {
  impl_->received.Increment(static_cast<double>(bytes));
}
void ServerMetrics::count_sent(std::uint64_t bytes) { impl_->sent.Increment(static_cast<double>(bytes)); }
void ServerMetrics::observe_commit(double seconds) { impl_->commit.Observe(seconds); }

void ServerMetrics::show(const State& state, const Gauges& gauges) {
  std::size_t counts[3] = {};
  std::size_t connected = 0;
  for (const auto& [key, node] : state.fleet.nodes) {
    ++counts[static_cast<std::size_t>(node.record.state)];
    if (node.session != 0 && node.record.state == NodeState::active) ++connected;
  }
  for (const NodeState each : {NodeState::active, NodeState::quarantined, NodeState::revoked}) {
    impl_->nodes.Add({{"state", std::string(name(each))}})
        .Set(static_cast<double>(counts[static_cast<std::size_t>(each)]));
  }
  impl_->sessions.Set(static_cast<double>(connected));
  impl_->connections.Set(static_cast<double>(gauges.connections));
  impl_->unauthenticated.Set(static_cast<double>(gauges.unauthenticated));
  // Counted elsewhere, and only ever rising.
  impl_->handshakes_failed.Increment(static_cast<double>(gauges.handshakes_failed) -
                                     impl_->handshakes_failed.Value());
  impl_->over_limit.Increment(static_cast<double>(gauges.over_limit) - impl_->over_limit.Value());
  impl_->version.Set(static_cast<double>(state.registry.assigned));
  impl_->round_number.Set(static_cast<double>(state.schedule.last_started));
  impl_->schedule_stopped.Set(state.schedule.stopped.empty() ? 0 : 1);
  if (const ReleaseRecord* release = state.registry.active_release()) {
    impl_->release.Add({}).Set(unix_seconds(release->release.limits.expires));
  }
  const VersionRecord* newest = state.registry.find(state.registry.head);
  if (newest != nullptr && newest->metrics) {
    impl_->accuracy.Add({}).Set(newest->metrics->accuracy);
    impl_->loss.Add({}).Set(newest->metrics->loss);
  }
  impl_->blobs.Set(static_cast<double>(gauges.blob_bytes));
  impl_->storage.Set(state.storage_full || state.storage_failed ? 0 : 1);
  impl_->trust.Set(unix_seconds(state.trust.expires));
}

std::string ServerMetrics::text() const {
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace rivulet::coordinator
