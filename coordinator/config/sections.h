#pragma once

#include "config/toml_reader.h"
#include "coordinator/core/config.h"

/// The sections that coordinator.toml and an experiment have in common, with one set of keys and
/// defaults. Each reads its keys into `out`, whose values stand for those that are absent; errors
/// wait in the reader for finish().
namespace rivulet::coordinator {

void read_round(TomlReader section, RoundConfig& out);
void read_training(TomlReader section, TrainingConfig& out);
void read_delta(TomlReader section, DeltaConfig& out);
void read_aggregation(TomlReader section, AggregationConfig& out);
void read_validation(TomlReader section, ValidationConfig& out);
void read_limits(TomlReader section, LimitsConfig& out);

/// check(config), whose complaint becomes one of its key's line. @param root what the sections were taken of.
void check_together(TomlReader& root, const Config& config);

}  // namespace rivulet::coordinator
