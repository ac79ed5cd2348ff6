#include "coordinator/config/sections.h"

#include <algorithm>
#include <limits>

namespace rivulet::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::uint32_t read_u32(TomlReader& in, std::string_view key, std::uint32_t otherwise) {
  return static_cast<std::uint32_t>(in.integer(key, otherwise, 0, std::numeric_limits<std::uint32_t>::max()));
}

std::uint64_t read_u64(TomlReader& in, std::string_view key, std::uint64_t otherwise) {
  return static_cast<std::uint64_t>(in.integer(key, static_cast<std::int64_t>(otherwise)));
}

seconds read_seconds(TomlReader& in, std::string_view key, seconds otherwise) {
  return seconds(in.integer(key, otherwise.count(), 0, 366 * 86400));
}

milliseconds read_milliseconds(TomlReader& in, std::string_view key, milliseconds otherwise) {
  return milliseconds(in.integer(key, otherwise.count(), 0, 86'400'000));
}

}  // namespace

void read_round(TomlReader section, RoundConfig& out) {
  section.choice("mode", "sync", {"sync"});
  out.cohort = read_u32(section, "cohort", out.cohort);
  out.over_selection = section.number("over_selection", out.over_selection);
  out.goal = read_u32(section, "goal", out.goal);
  // Small cohorts keep their minimum within reach without naming it.
  out.cohort_min = read_u32(section, "cohort_min", std::min(out.cohort_min, std::max(out.cohort, 1U)));
  const std::uint32_t goal = out.goal == 0 ? out.cohort : out.goal;
  out.updates_min =
      read_u32(section, "updates_min", std::min({out.updates_min, out.cohort_min, std::max(goal, 1U)}));
  out.selection_patience = read_seconds(section, "selection_patience_s", out.selection_patience);
  out.selection_deadline = read_seconds(section, "selection_deadline_s", out.selection_deadline);
  out.deadline = read_seconds(section, "deadline_s", out.deadline);
  out.failure_pause = read_seconds(section, "failure_pause_s", out.failure_pause);
  out.samples_min = read_u64(section, "samples_min", out.samples_min);
  out.sample_count_max = read_u64(section, "sample_count_max", out.sample_count_max);
  out.refusals_max = read_u32(section, "refusals_max", out.refusals_max);
}

void read_training(TomlReader section, TrainingConfig& out) {
  out.epochs = read_u32(section, "epochs", out.epochs);
  out.batch_size = read_u32(section, "batch_size", out.batch_size);
  out.learning_rate = section.number("learning_rate", out.learning_rate);
  out.momentum = section.number("momentum", out.momentum);
  out.weight_decay = section.number("weight_decay", out.weight_decay);
  out.proximal_mu = section.number("proximal_mu", out.proximal_mu);
  out.optimizer = section.choice("optimizer", out.optimizer, {"sgd", "adam"});
}

void read_delta(TomlReader section, DeltaConfig& out) {
  out.codec = section.choice("codec", "int8", {"fp32", "int8"}) == "fp32" ? Codec::fp32 : Codec::int8;
  out.norm_bound = section.number("norm_bound", out.norm_bound);
}

void read_aggregation(TomlReader section, AggregationConfig& out) {
  out.rule = section.choice("rule", out.rule, {"mean"});
  out.optimizer = section.choice("optimizer", out.optimizer, {"fedavg"});
  out.server_learning_rate = section.number("server_learning_rate", out.server_learning_rate);
}

void read_validation(TomlReader section, ValidationConfig& out) {
  const std::string mode = section.choice("mode", name(out.mode), {"federated", "central", "both", "none"});
  if (const auto parsed = parse_validation_mode(mode)) out.mode = *parsed;
  out.evaluators = read_u32(section, "evaluators", out.evaluators);
  out.evaluators_min =
      read_u32(section, "evaluators_min", std::min(out.evaluators_min, std::max(out.evaluators, 1U)));
  out.holdout_min = read_u64(section, "holdout_min", out.holdout_min);
  out.holdout_max = read_u64(section, "holdout_max", out.holdout_max);
  out.tolerance = section.number("tolerance", out.tolerance);
  out.variant_tolerance = section.number("variant_tolerance", out.variant_tolerance);
  out.deadline = read_seconds(section, "deadline_s", out.deadline);
}

void read_limits(TomlReader section, LimitsConfig& out) {
  out.heartbeat = read_seconds(section, "heartbeat_s", out.heartbeat);
  out.storage_backoff = read_milliseconds(section, "storage_backoff_ms", out.storage_backoff);
  out.shutdown_backoff = read_milliseconds(section, "shutdown_backoff_ms", out.shutdown_backoff);
  out.versions_kept = read_u32(section, "versions_kept", out.versions_kept);
  out.verdict_rounds = read_u32(section, "verdict_rounds", out.verdict_rounds);
  out.rounds_listed = read_u32(section, "rounds_listed", out.rounds_listed);
  out.overlap_below = read_u32(section, "overlap_below", out.overlap_below);
  out.messages_burst = read_u32(section, "messages_burst", out.messages_burst);
  out.messages_per_second = read_u32(section, "messages_per_second", out.messages_per_second);
}

void check_together(TomlReader& root, const Config& config) {
  const Status status = check(config);
  if (status) return;
  // It has the form "[section] key what".
  const std::string& detail = status.error().detail;
  const std::size_t bracket = detail.find("] ");
  const std::size_t end = bracket == std::string::npos ? std::string::npos : detail.find(' ', bracket + 2);
  if (!detail.starts_with('[') || end == std::string::npos) return root.reject("round", detail);
  TomlReader section = root.table(detail.substr(1, bracket - 1));
  section.reject(detail.substr(bracket + 2, end - bracket - 2), detail.substr(end + 1));
}

}  // namespace rivulet::coordinator
