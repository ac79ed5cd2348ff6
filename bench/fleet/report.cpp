#include "bench/fleet/report.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

namespace rivulet::bench {
namespace {

constexpr double mb = 1e6;
constexpr std::size_t troubles_shown = 8;

double seconds(const std::optional<MonotonicTime>& begin, const std::optional<MonotonicTime>& end) {
  if (!begin || !end) return 0;
  return std::max(1e-9, std::chrono::duration<double>(*end - *begin).count());
}

double per(double amount, double time) { return time > 0 ? amount / time : 0; }

std::string memory_lines(const Findings& findings) {
  std::string text;
  double cpu = 0;
  for (const Sample& sample : findings.samples) {
    text += fmt::format("  {:<24} VmRSS {:7.1f} MB  VmHWM {:7.1f} MB  CPU {:+8.2f} s\n", sample.when,
                        static_cast<double>(sample.use.resident_bytes) / mb,
                        static_cast<double>(sample.use.peak_bytes) / mb, sample.use.cpu_seconds - cpu);
    cpu = sample.use.cpu_seconds;
  }
  return text;
}

std::string trouble_lines(const FleetCounts& counts) {
  std::string text;
  std::size_t shown = 0;
  for (const auto& [what, times] : counts.troubles) {
    if (++shown > troubles_shown) break;
    text += fmt::format("  trouble, {} times: {}\n", times, what);
  }
  return text;
}

}  // namespace

std::uint64_t peak_memory(const Findings& findings) {
  std::uint64_t peak = 0;
  for (const Sample& sample : findings.samples) peak = std::max(peak, sample.use.peak_bytes);
  return peak;
}

std::uint64_t memory_limit(const Findings& findings) {
  return 6 * sizeof(float) * findings.parameters + 250'000'000 + std::uint64_t{32 * 1024} * findings.nodes;
}

bool passes(const Findings& findings) {
  return !findings.samples.empty() && peak_memory(findings) <= memory_limit(findings) &&
         findings.counts.accepted == findings.nodes && findings.counts.aggregated == findings.nodes;
}

std::string to_text(const Findings& findings) {
  const FleetCounts& counts = findings.counts;
  const double round = seconds(counts.first_task, counts.last_receipt);
  const double down = seconds(counts.first_task, counts.last_download);
  const double up = seconds(counts.first_offer, counts.last_receipt);
  const double publish = seconds(counts.last_receipt, counts.first_verdict);
  const auto updates = static_cast<double>(counts.accepted);
  const double content = updates * static_cast<double>(findings.update_bytes);
  const double peak = static_cast<double>(peak_memory(findings));
  const auto limit = static_cast<double>(memory_limit(findings));
  std::string text = fmt::format("{} nodes, {} parameters, updates of {:.2f} MB\n", findings.nodes,
                                 findings.parameters, static_cast<double>(findings.update_bytes) / mb);
  text += fmt::format(
      "  {} accepted, {} refused, {} aggregated, {} discarded; {} connections, {} cut in mid-transfer\n",
      counts.accepted, counts.refused, counts.aggregated, counts.discarded, counts.connections, counts.cuts);
  text += trouble_lines(counts);
  text += memory_lines(findings);
  text += fmt::format("download   {:8.2f} s  {:8.1f} MB/s\n", down,
                      per(static_cast<double>(counts.bytes_down) / mb, down));
  text += fmt::format("upload     {:8.2f} s  {:8.1f} MB/s  {:8.1f} updates/s\n", up,
                      per(static_cast<double>(counts.bytes_up) / mb, up), per(updates, up));
  text += fmt::format(
      "round      {:8.2f} s  {:8.1f} updates/s from the first task to the last receipt; the fleet's own "
      "CPU {:.2f} s\n",
      round, per(updates, round), findings.fleet_cpu_seconds);
  text += fmt::format("publish    {:8.2f} s  from the last receipt to the first verdict\n", publish);
  text += fmt::format(
      "plain      {:8.2f} s  {:8.1f} MB/s  one writer of the same files: fdatasync, rename, sync\n",
      findings.plain_seconds, per(content / mb, findings.plain_seconds));
  text += fmt::format("ratio upload / plain writing  {:.2f}\n", per(up, findings.plain_seconds));
  text += fmt::format("ratio bytes up / updates      {:.4f}\n",
                      per(static_cast<double>(counts.bytes_up), content));
  text += fmt::format("ratio memory / limit          {:.3f}  ({:.1f} of {:.1f} MB)\n", peak / limit,
                      peak / mb, limit / mb);
  text += passes(findings) ? "passed\n" : "FAILED\n";
  return text;
}

}  // namespace rivulet::bench
