#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "node/core/effects.h"
#include "node/daemon/sample_store.h"
#include "protocol/ids.h"

namespace rivulet::node {

/// What the daemon counts, for Prometheus. Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void inferred(std::uint64_t samples, double seconds_each);
  void inference_failed(std::uint64_t samples);
  /// @param version that answers from now on; 0 if none does.
  void model_swapped(VersionNumber version);
  void samples_added(const AddOutcome& outcome);
  /// Samples that could not be read at all: beside those that samples_added() counts.
  void samples_refused(std::uint64_t count);
  void samples_expired(std::uint64_t count);
  void samples_held(const SampleCounts& counts);
  /// Samples that training or judging had to leave out: a wrong width, or a label that is no class.
  void samples_skipped(std::uint64_t count);
  /// @param outcome "done", "stopped", or the reason of a failure.
  void trained(std::string_view outcome, double seconds);
  void evaluated(std::string_view outcome);
  void link_up(bool up);
  /// Counts what the agent warns of, by event and reason: what it refused, what failed, what it gave up.
  void noticed(const effect::Notice& notice);
  void trust_expires(UtcTime time);
  void transferred(std::uint64_t sent_bytes, std::uint64_t received_bytes);

  /// Prometheus's text form.
  [[nodiscard]] std::string text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rivulet::node
