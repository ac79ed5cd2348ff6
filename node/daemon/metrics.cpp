#include "node/daemon/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <sstream>

#include "protocol/reason.h"

namespace rivulet::node {
namespace {

prometheus::Family<prometheus::Counter>& counters(prometheus::Registry& registry, const char* name,
                                                  const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}
prometheus::Counter& counter(prometheus::Registry& registry, const char* name, const char* help) {
  return counters(registry, name, help).Add({});
}
prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

const prometheus::Histogram::BucketBoundaries inference_buckets = {
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 1.0};

}  // namespace

/// An event that the agent warns of, and with which reasons.
struct Warning {
  const char* event;
  Reason first;
  Reason last;
};
constexpr Warning warnings[] = {
    {"coordinator_given_up", Reason::unsupported_protocol, Reason::unsupported_protocol},
    {"coordinator_given_up", Reason::handshake_timeout, Reason::handshake_timeout},
    {"coordinator_given_up", Reason::untrusted, Reason::untrusted},
    {"session_refused", Reason::unknown_key, Reason::quarantined},
    {"session_refused", Reason::wrong_fleet, Reason::unsupported_protocol},
    {"session_refused", Reason::unexpected_message, Reason::replaced},
    {"assignment_refused", Reason::too_large, Reason::corrupt_content},
    {"assignment_refused", Reason::known_answers_wrong, Reason::bad_manifest},
    {"activation_failed", Reason::too_large, Reason::corrupt_content},
    {"activation_failed", Reason::storage_full, Reason::storage_failed},
    {"activation_failed", Reason::known_answers_wrong, Reason::bad_manifest},
    {"fell_back", Reason::not_loadable, Reason::not_loadable},
    {"no_model_serves", Reason::not_loadable, Reason::not_loadable},
    {"release_refused", Reason::bad_manifest, Reason::bad_manifest},
    {"task_refused", Reason::untrusted, Reason::untrusted},
    {"task_refused", Reason::overloaded, Reason::overloaded},
    {"task_refused", Reason::bad_manifest, Reason::bad_manifest},
    {"task_refused", Reason::bad_plan, Reason::too_late},
    {"task_ended", Reason::none, Reason::none},
    {"task_ended", Reason::unknown_task, Reason::over_goal},
    {"task_ended", Reason::storage_full, Reason::overloaded},
    {"task_ended", Reason::known_answers_wrong, Reason::too_late},
    {"content_damaged", Reason::corrupt_content, Reason::corrupt_content},
    {"trust_expired", Reason::untrusted, Reason::untrusted},
};

struct Metrics::Impl {
  prometheus::Registry registry;

  /// Prometheus sees no increase in a series that begins with its first count.
  Impl() {
    for (auto* outcomes : {&trainings, &evaluations}) {
      for (const char* end : {"done", "stopped"}) outcomes->Add({{"outcome", end}});
    }
    for (const Reason reason :
         {Reason::too_large, Reason::corrupt_content, Reason::storage_full, Reason::storage_failed,
          Reason::not_loadable, Reason::bad_manifest, Reason::training_diverged, Reason::training_failed,
          Reason::too_few_samples, Reason::bad_plan, Reason::too_late}) {
      for (auto* outcomes : {&trainings, &evaluations})
        outcomes->Add({{"outcome", std::string(name(reason))}});
    }
    for (const Warning& warning : warnings) {
      for (auto number = static_cast<std::uint16_t>(warning.first);
           number <= static_cast<std::uint16_t>(warning.last); ++number) {
        const auto reason = name(static_cast<Reason>(number));
        if (reason != "unknown") refusals.Add({{"event", warning.event}, {"reason", std::string(reason)}});
      }
    }
    for (const Errc error : {Errc::too_large, Errc::refused, Errc::corrupt, Errc::not_found, Errc::storage,
                             Errc::storage_full, Errc::disconnected, Errc::timeout, Errc::conflict})
      refusals.Add({{"event", "content_failed"}, {"reason", std::string(name(error))}});
  }

  prometheus::Counter& inferences =
      counter(registry, "rivulet_node_inferences_total", "Samples that were answered.");
  prometheus::Counter& inference_errors =
      counter(registry, "rivulet_node_inference_errors_total", "Samples that the model could not answer.");
  prometheus::Histogram& inference_seconds = prometheus::BuildHistogram()
                                                 .Name("rivulet_node_inference_seconds")
                                                 .Help("Time the model takes for a sample.")
                                                 .Register(registry)
                                                 .Add({}, inference_buckets);
  prometheus::Counter& swaps =
      counter(registry, "rivulet_node_model_swaps_total", "Models that took over all inferences.");
  prometheus::Gauge& version =
      gauge(registry, "rivulet_node_served_version", "The version that answers inferences; 0 if none does.");

  prometheus::Counter& stored =
      counter(registry, "rivulet_node_samples_stored_total", "Samples that were stored.");
  prometheus::Counter& duplicate =
      counter(registry, "rivulet_node_samples_duplicate_total", "Samples that were stored before.");
  prometheus::Counter& refused =
      counter(registry, "rivulet_node_samples_refused_total", "Samples that were not in order.");
  prometheus::Counter& dropped = counter(registry, "rivulet_node_samples_dropped_total",
                                         "Oldest samples that made room or had grown too old.");
  prometheus::Counter& skipped =
      counter(registry, "rivulet_node_samples_skipped_total",
              "Samples left out of a training or score: wrong width or unknown label.");
  prometheus::Family<prometheus::Gauge>& held =
      prometheus::BuildGauge().Name("rivulet_node_samples").Help("Samples in the buffer.").Register(registry);
  prometheus::Gauge& held_training = held.Add({{"split", "training"}});
  prometheus::Gauge& held_holdout = held.Add({{"split", "holdout"}});
  prometheus::Gauge& held_unlabelled = held.Add({{"split", "unlabelled"}});
  prometheus::Gauge& held_bytes =
      gauge(registry, "rivulet_node_buffer_bytes", "Bytes of the samples in the buffer.");

  prometheus::Family<prometheus::Counter>& trainings =
      counters(registry, "rivulet_node_training_runs_total", "Trainings by how they ended.");
  prometheus::Counter& training_seconds =
      counter(registry, "rivulet_node_training_seconds_total", "Time spent in training.");
  prometheus::Family<prometheus::Counter>& evaluations =
      counters(registry, "rivulet_node_evaluations_total", "Evaluations of candidates by how they ended.");

  prometheus::Family<prometheus::Counter>& refusals =
      counters(registry, "rivulet_node_refusals_total",
               "What the node refused, gave up or could not use, by the log's event and its reason.");
  prometheus::Gauge& trust = gauge(registry, "rivulet_node_trust_expires_timestamp_seconds",
                                   "When the trust document expires: renew it before.");
  prometheus::Gauge& link = gauge(registry, "rivulet_node_link_up", "1 while the coordinator is connected.");
  prometheus::Counter& sent =
      counter(registry, "rivulet_node_sent_bytes_total", "Content bytes that were sent.");
  prometheus::Counter& received =
      counter(registry, "rivulet_node_received_bytes_total", "Content bytes that were received.");
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::inferred(std::uint64_t samples, double seconds_each) {
  impl_->inferences.Increment(static_cast<double>(samples));
  for (std::uint64_t i = 0; i < samples; ++i) impl_->inference_seconds.Observe(seconds_each);
}

void Metrics::inference_failed(std::uint64_t samples) {
  impl_->inference_errors.Increment(static_cast<double>(samples));
}

void Metrics::model_swapped(VersionNumber version) {
  if (version != 0) impl_->swaps.Increment();
  impl_->version.Set(static_cast<double>(version));
}

void Metrics::samples_added(const AddOutcome& outcome) {
  impl_->stored.Increment(static_cast<double>(outcome.stored));
  impl_->duplicate.Increment(static_cast<double>(outcome.duplicate));
  impl_->refused.Increment(static_cast<double>(outcome.refused.size()));
  impl_->dropped.Increment(static_cast<double>(outcome.dropped));
}

void Metrics::samples_refused(std::uint64_t count) { impl_->refused.Increment(static_cast<double>(count)); }

void Metrics::samples_expired(std::uint64_t count) { impl_->dropped.Increment(static_cast<double>(count)); }

void Metrics::samples_held(const SampleCounts& counts) {
  impl_->held_training.Set(static_cast<double>(counts.training));
  impl_->held_holdout.Set(static_cast<double>(counts.holdout));
  impl_->held_unlabelled.Set(static_cast<double>(counts.unlabelled));
  impl_->held_bytes.Set(static_cast<double>(counts.bytes));
}

void Metrics::samples_skipped(std::uint64_t count) { impl_->skipped.Increment(static_cast<double>(count)); }

void Metrics::trained(std::string_view outcome, double seconds) {
  impl_->trainings.Add({{"outcome", std::string(outcome)}}).Increment();
  impl_->training_seconds.Increment(seconds);
}

void Metrics::evaluated(std::string_view outcome) {
  impl_->evaluations.Add({{"outcome", std::string(outcome)}}).Increment();
}

void Metrics::link_up(bool up) { impl_->link.Set(up ? 1 : 0); }

void Metrics::noticed(const effect::Notice& notice) {
  if (notice.level == effect::Notice::Level::info) return;
  std::string reason = "none";
  // Some errors have a code and no reason. Both are of a fixed set of words.
  for (const char* key : {"error", "reason"}) {
    for (const auto& [name, value] : notice.fields) {
      if (name == key) reason = value;
    }
  }
  impl_->refusals.Add({{"event", notice.event}, {"reason", reason}}).Increment();
}

void Metrics::trust_expires(UtcTime time) {
  impl_->trust.Set(std::chrono::duration<double>(time.time_since_epoch()).count());
}

void Metrics::transferred(std::uint64_t sent_bytes, std::uint64_t received_bytes) {
  impl_->sent.Increment(static_cast<double>(sent_bytes));
  impl_->received.Increment(static_cast<double>(received_bytes));
}

std::string Metrics::text() const {
  std::ostringstream out;
  const prometheus::TextSerializer serializer;
  serializer.Serialize(out, impl_->registry.Collect());
  return out.str();
}

}  // namespace rivulet::node
