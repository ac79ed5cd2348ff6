#pragma once

#include <optional>
#include <span>
#include <string>

#include "models/runtime/inference.h"

namespace rivulet::node {

/// Of the classes that a node's own samples get, such a part may differ in int8 from those in float; the
/// error of rebuilding them may grow by it. The coordinator's [validation] variant_tolerance, by default.
inline constexpr double int8_loss_max = 0.02;

/// How far off int8 may be from a regression's answers in float, in root mean square, as a part of the
/// standard deviation by which those tell the samples apart. What is 5 % off adds 0.25 % of their variance
/// to the squared error: where they explain nine tenths of what was measured, about int8_loss_max of it.
inline constexpr double int8_drift_max = 0.05;

/// What a node's own samples say against int8; nothing: its answers are as good as those in float. Pure.
/// Anomalies among the samples have most of the mean error, and would hide that normal ones look like them:
/// the median is held to the same. @param in_float,in_int8 the answers of a model of this task to the same
/// samples, at least one.
std::optional<std::string> find_int8_fault(TaskKind task, std::span<const Prediction> in_float,
                                           std::span<const Prediction> in_int8);

}  // namespace rivulet::node
