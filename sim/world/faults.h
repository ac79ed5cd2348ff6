#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "protocol/now.h"
#include "protocol/rng.h"

namespace rivulet::sim {

/// How likely each fault is, drawn anew for every seed: some seeds have few kinds at high rates, others
/// many at low ones (swarm testing, Groce et al. 2012).
struct FaultRates {
  double cut = 0;            ///< A frame at which the connection breaks, both sides learning of it.
  double half_open = 0;      ///< … and one side never learns.
  double stall = 0;          ///< A frame from which one direction stands still for up to two minutes.
  double abandon = 0;        ///< A frame after which the node opens a new connection beside the old one.
  double durable_crash = 0;  ///< A crash right before or after a durable step.
  double disk_full = 0;      ///< A commit that fails for want of room.
  double disk_error = 0;     ///< A commit that fails for good (EIO).
  double task_failure = 0;   ///< A training or evaluation that gives nothing.
  double node_crashes_per_hour = 0;
  double coordinator_crashes_per_hour = 0;
  double clock_jumps_per_hour = 0;

  static FaultRates draw(Rng& rng);
  static FaultRates none() { return {}; }
};

/// Decides which faults fire, and counts them.
class Faults {
 public:
  /// At first nothing fails.
  explicit Faults(std::uint64_t seed) : rng_(seed) {}

  /// Whether the fault `name` fires now; counted if so.
  bool fire(const std::string& name, double probability);
  /// A crash at the durable step `name`; the visit is counted too.
  bool crash_at(const std::string& name);
  /// From now on; FaultRates::none() heals the world.
  void set_rates(const FaultRates& rates) { rates_ = rates; }

  [[nodiscard]] const FaultRates& rates() const { return rates_; }
  [[nodiscard]] Rng& rng() { return rng_; }
  /// Uniform in [0, most).
  MonotonicTime delay(MonotonicTime most);

  std::map<std::string, std::uint64_t> fired;
  std::map<std::string, std::uint64_t> crashed;  ///< By durable step, also those never crashed (0).

 private:
  FaultRates rates_;
  Rng rng_;
};

}  // namespace rivulet::sim
