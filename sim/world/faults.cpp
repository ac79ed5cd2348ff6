#include "sim/world/faults.h"

namespace rivulet::sim {

FaultRates FaultRates::draw(Rng& rng) {
  FaultRates rates;
  const auto maybe = [&](double& rate, double most) {
    if (uniform_unit(rng) < 0.5) rate = most * uniform_unit(rng);
  };
  maybe(rates.cut, 0.03);
  maybe(rates.half_open, 0.01);
  maybe(rates.stall, 0.01);
  maybe(rates.abandon, 0.02);
  maybe(rates.durable_crash, 0.05);
  maybe(rates.disk_full, 0.05);
  maybe(rates.disk_error, 0.01);
  maybe(rates.node_crashes_per_hour, 6);
  maybe(rates.coordinator_crashes_per_hour, 20);
  maybe(rates.clock_jumps_per_hour, 6);
  maybe(rates.task_failure, 0.3);
  return rates;
}

bool Faults::fire(const std::string& name, double probability) {
  std::uint64_t& count = fired[name];
  if (probability <= 0 || uniform_unit(rng_) >= probability) return false;
  ++count;
  return true;
}

bool Faults::crash_at(const std::string& name) {
  std::uint64_t& count = crashed[name];
  if (rates_.durable_crash <= 0 || uniform_unit(rng_) >= rates_.durable_crash) return false;
  ++count;
  return true;
}

MonotonicTime Faults::delay(MonotonicTime most) {
  return MonotonicTime(
      static_cast<MonotonicTime::rep>(uniform_unit(rng_) * static_cast<double>(most.count())));
}

}  // namespace rivulet::sim
