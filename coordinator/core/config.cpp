#include "coordinator/core/config.h"

#include <cmath>

#include "protocol/training_limits.h"

namespace rivulet::coordinator {
namespace {

using std::chrono::milliseconds;

/// Longer waits are mistakes, and would overflow a clock in nanoseconds.
constexpr std::chrono::hours wait_max{24 * 366};

Status require(bool holds, const char* what) {
  if (holds) return {};
  return fail(Errc::invalid, what);
}

Status check_waits(const Config& config) {
  struct Wait {
    const char* key;
    milliseconds value;
    milliseconds least;
  };
  const RoundConfig& round = config.round;
  for (const Wait& wait :
       {Wait{"[round] selection_patience_s", round.selection_patience, milliseconds(0)},
        Wait{"[round] selection_deadline_s", round.selection_deadline, milliseconds(1)},
        Wait{"[round] deadline_s", round.deadline, milliseconds(1)},
        Wait{"[round] failure_pause_s", round.failure_pause, milliseconds(0)},
        Wait{"[validation] deadline_s", config.validation.deadline, milliseconds(1)},
        Wait{"[limits] heartbeat_s", config.limits.heartbeat, milliseconds(1)},
        Wait{"[limits] storage_backoff", config.limits.storage_backoff, milliseconds(1)},
        Wait{"[limits] shutdown_backoff", config.limits.shutdown_backoff, milliseconds(1)}}) {
    if (wait.value < wait.least || wait.value > wait_max) {
      return fail(Errc::invalid, std::string(wait.key) + " must be " +
                                     (wait.least.count() > 0 ? "above" : "at least") +
                                     " 0 and at most 366 days");
    }
  }
  return {};
}

Status check_round(const RoundConfig& round) {
  const std::uint32_t goal = round.goal == 0 ? round.cohort : round.goal;
  for (const Status& status : {
           require(round.cohort >= 1 && round.cohort <= 1'000'000,
                   "[round] cohort must be between 1 and 1000000"),
           require(round.over_selection >= 1.0 && round.over_selection <= 10.0,
                   "[round] over_selection must be between 1 and 10"),
           require(goal <= std::ceil(round.cohort * round.over_selection),
                   "[round] goal is above cohort * over_selection, so it could never be reached"),
           require(round.cohort_min >= 1 && round.cohort_min <= round.cohort,
                   "[round] cohort_min must be between 1 and cohort"),
           require(round.updates_min >= 1 && round.updates_min <= goal,
                   round.goal == 0 ? "[round] updates_min must be between 1 and cohort"
                                   : "[round] updates_min must be between 1 and goal"),
           require(round.updates_min <= round.cohort_min,
                   "[round] updates_min must not be above cohort_min, or the smallest cohort always fails"),
           require(round.sample_count_max >= 1, "[round] sample_count_max must be at least 1"),
           require(round.refusals_max >= 1, "[round] refusals_max must be at least 1"),
       }) {
    if (!status) return status;
  }
  return {};
}

Status check_training(const Config& config) {
  const TrainingConfig& training = config.training;
  const auto within = [](double value, double least, double most) { return value >= least && value <= most; };
  for (const Status& status : {
           // As nodes see it: beyond these they refuse the task.
           require(training.epochs >= 1 && training.epochs <= training_epochs_max,
                   "[training] epochs must be between 1 and 10000"),
           require(
               training.batch_size >= 1 && training.batch_size <= training_batch_size_max,
               "[training] batch_size must be between 1 and 4096: nodes refuse larger ones, which would take "
               "too much memory"),
           require(training.learning_rate > 0 && training.learning_rate <= 100,
                   "[training] learning_rate must be above 0 and at most 100"),
           require(within(training.momentum, 0, 1), "[training] momentum must be between 0 and 1"),
           require(within(training.weight_decay, 0, 1e6),
                   "[training] weight_decay must be between 0 and 1e6"),
           require(within(training.proximal_mu, 0, 1e6), "[training] proximal_mu must be between 0 and 1e6"),
           require(within(config.delta.norm_bound, 0, 1e30),
                   "[delta] norm_bound must be between 0 (none) and 1e30"),
           require(config.aggregation.rule == "mean", "[aggregation] rule must be \"mean\""),
           require(config.aggregation.optimizer == "fedavg", "[aggregation] optimizer must be \"fedavg\""),
           require(
               config.aggregation.server_learning_rate > 0 && config.aggregation.server_learning_rate <= 100,
               "[aggregation] server_learning_rate must be above 0 and at most 100"),
       }) {
    if (!status) return status;
  }
  const auto optimizer = optimizer_number(training.optimizer);
  if (!optimizer) return std::unexpected(optimizer.error());
  return {};
}

Status check_validation(const ValidationConfig& validation, const LimitsConfig& limits) {
  for (const Status& status : {
           require(validation.evaluators >= 1, "[validation] evaluators must be at least 1"),
           require(validation.evaluators_min >= 1 && validation.evaluators_min <= validation.evaluators,
                   "[validation] evaluators_min must be between 1 and evaluators"),
           require(validation.holdout_min >= 1, "[validation] holdout_min must be at least 1"),
           require(validation.holdout_max >= 1 && validation.holdout_max <= (1U << 30),
                   "[validation] holdout_max must be between 1 and 2^30"),
           require(validation.tolerance >= 0 && validation.tolerance <= 1,
                   "[validation] tolerance must be a fraction between 0 and 1"),
           require(validation.variant_tolerance >= 0 && validation.variant_tolerance <= 1,
                   "[validation] variant_tolerance must be a fraction between 0 and 1"),
           require(limits.versions_kept >= 2,
                   "[limits] versions_kept must be at least 2: a version and its fallback"),
           require(limits.verdict_rounds >= 1, "[limits] verdict_rounds must be at least 1"),
           require(
               limits.rounds_listed >= 1,
               "[limits] rounds_listed must be at least 1: who waits for a round is told of it from there"),
           require(
               limits.messages_burst >= 50 && limits.messages_burst <= 1'000'000,
               "[limits] messages_burst must be between 50 and 1000000: a node that comes back says a few "
               "dozen at once"),
           require(limits.messages_per_second >= 1 && limits.messages_per_second <= 1'000'000,
                   "[limits] messages_per_second must be between 1 and 1000000"),
       }) {
    if (!status) return status;
  }
  return {};
}

}  // namespace

std::string_view name(ValidationMode mode) {
  switch (mode) {
    case ValidationMode::federated: return "federated";
    case ValidationMode::central: return "central";
    case ValidationMode::both: return "both";
    case ValidationMode::none: return "none";
  }
  return "both";
}

Result<ValidationMode> parse_validation_mode(std::string_view text) {
  for (const ValidationMode mode :
       {ValidationMode::federated, ValidationMode::central, ValidationMode::both, ValidationMode::none}) {
    if (text == name(mode)) return mode;
  }
  return fail(Errc::invalid,
              "validation mode '" + std::string(text) + "' is none of federated, central, both, none");
}

Result<std::uint16_t> optimizer_number(std::string_view text) {
  if (text == "sgd") return std::uint16_t{0};
  if (text == "adam") return std::uint16_t{1};
  return fail(Errc::invalid,
              "[training] optimizer must be \"sgd\" or \"adam\", not \"" + std::string(text) + "\"");
}

Status check(const Config& config) {
  Status status = check_round(config.round);
  if (status) status = check_waits(config);
  if (status) status = check_training(config);
  if (status) status = check_validation(config.validation, config.limits);
  return status;
}

}  // namespace rivulet::coordinator
