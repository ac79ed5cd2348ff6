#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/codec/codec.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

/// [round] Who is asked, and when a round closes.
struct RoundConfig {
  std::uint32_t cohort = 10;                     ///< Updates that a round wants.
  double over_selection = 1.3;                   ///< Times the cohort is how many nodes are asked.
  std::uint32_t goal = 0;                        ///< Closes at this many accepted updates; 0: at the cohort.
  std::uint32_t cohort_min = 2;                  ///< Fewer eligible nodes than this start no training.
  std::uint32_t updates_min = 2;                 ///< Fewer accepted updates than this fail the round.
  std::chrono::seconds selection_patience{5};    ///< How long a full cohort is waited for.
  std::chrono::seconds selection_deadline{600};  ///< Then a round without the minimum cohort fails.
  std::chrono::seconds deadline{600};            ///< For training and upload.
  std::chrono::seconds failure_pause{5};         ///< Between a failed round and the next one.
  std::uint64_t samples_min = 1;                 ///< A node with fewer labelled samples isn't asked.
  std::uint64_t sample_count_max = 100'000;      ///< An update that claims more is refused.
  /// So many refused candidates in a row stop the schedule, and so many rounds that failed in aggregation or
  /// publication since the last published version.
  std::uint32_t refusals_max = 3;

  bool operator==(const RoundConfig&) const = default;
};

/// [training] What nodes do with their samples.
struct TrainingConfig {
  std::uint32_t epochs = 1;
  std::uint32_t batch_size = 10;
  double learning_rate = 0.1;
  double momentum = 0.0;
  double weight_decay = 0.0;
  double proximal_mu = 0.0;       ///< FedProx (arXiv:1812.06127); 0: none.
  std::string optimizer = "sgd";  ///< or "adam".

  bool operator==(const TrainingConfig&) const = default;
};

/// [delta] How updates travel.
struct DeltaConfig {
  Codec codec = Codec::int8;
  double norm_bound = 10.0;  ///< L2; a delta is clipped to it, and refused above 4 times; 0: none.

  bool operator==(const DeltaConfig&) const = default;
};

/// [aggregation] How deltas become a step of the master.
struct AggregationConfig {
  std::string rule = "mean";
  std::string optimizer = "fedavg";
  double server_learning_rate = 1.0;

  bool operator==(const AggregationConfig&) const = default;
};

/// Which samples a candidate must hold its own on before it is published.
enum class ValidationMode : std::uint8_t {
  federated,  ///< The nodes' holdouts.
  central,    ///< The release's holdout on the coordinator.
  both,       ///< Both; a release without a central holdout is judged by the nodes alone.
  none,       ///< Published unjudged.
};
std::string_view name(ValidationMode mode);
/// @return invalid.
Result<ValidationMode> parse_validation_mode(std::string_view text);

/// [validation] The gate between a candidate and the fleet.
struct ValidationConfig {
  ValidationMode mode = ValidationMode::both;
  std::uint32_t evaluators = 10;       ///< Nodes that are asked.
  std::uint32_t evaluators_min = 2;    ///< Fewer reports than this, and nothing is published.
  std::uint64_t holdout_min = 50;      ///< Samples, over all reports, after capping.
  std::uint64_t holdout_max = 10'000;  ///< A node's samples beyond this add no weight.
  double tolerance = 0.01;             ///< The largest fall in accuracy, as a fraction, that passes.
  double variant_tolerance = 0.02;     ///< A variant that falls further below its version is left out.
  std::chrono::seconds deadline{600};

  bool operator==(const ValidationConfig&) const = default;
};

/// [limits] What is kept, and how nodes are paced.
struct LimitsConfig {
  std::chrono::seconds heartbeat{60};
  std::chrono::milliseconds storage_backoff{30'000};  ///< Asked of nodes while storage is full.
  std::chrono::milliseconds shutdown_backoff{5'000};  ///< Asked of nodes at a shutdown.
  std::uint32_t versions_kept = 10;                   ///< Blobs of this many newest versions stay.
  std::uint32_t verdict_rounds = 100;                 ///< Rounds back for which known verdicts are kept.
  std::uint32_t rounds_listed = 1000;      ///< Finished rounds that are kept in memory for `round list`.
  std::uint32_t overlap_below = 20;        ///< With fewer nodes here an evaluator may have trained.
  std::uint32_t messages_burst = 400;      ///< That a node may say at once, over all its sessions …
  std::uint32_t messages_per_second = 20;  ///< … and after that; content and heartbeats do not count.

  bool operator==(const LimitsConfig&) const = default;
};

/// All settings of the coordinator's decisions. A change counts from the next round on.
struct Config {
  RoundConfig round;
  TrainingConfig training;
  DeltaConfig delta;
  AggregationConfig aggregation;
  ValidationConfig validation;
  LimitsConfig limits;

  bool operator==(const Config&) const = default;
};

/// Whether the values make sense alone and together. @return invalid, naming section and key.
Status check(const Config& config);

/// The number of TrainingPlan::optimizer on the wire. @return invalid.
Result<std::uint16_t> optimizer_number(std::string_view text);

}  // namespace rivulet::coordinator
