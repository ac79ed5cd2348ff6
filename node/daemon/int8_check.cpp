#include "node/daemon/int8_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace rivulet::node {
namespace {

using Answers = std::span<const Prediction>;

std::optional<std::string> find_other_classes(Answers in_float, Answers in_int8) {
  std::size_t differ = 0;
  for (std::size_t i = 0; i < in_float.size(); ++i) {
    differ += in_float[i].class_index != in_int8[i].class_index ? 1 : 0;
  }
  if (static_cast<double>(differ) <= int8_loss_max * static_cast<double>(in_float.size())) return {};
  return fmt::format("more than {} % of this node's own samples get another class in int8",
                     100 * int8_loss_max);
}

struct Errors {
  double mean = 0;
  double median = 0;
};

Errors errors_of(Answers rebuilt) {
  std::vector<float> errors;
  Errors found;
  for (const Prediction& one : rebuilt) {
    errors.push_back(one.value.front());
    found.mean += one.value.front() / static_cast<double>(rebuilt.size());
  }
  const auto middle = errors.begin() + static_cast<std::ptrdiff_t>(errors.size() / 2);
  std::ranges::nth_element(errors, middle);
  found.median = *middle;
  return found;
}

std::optional<std::string> find_growth(Answers in_float, Answers in_int8) {
  const Errors before = errors_of(in_float), now = errors_of(in_int8);
  const auto may_be = [](double error) { return error * (1 + int8_loss_max); };
  if (now.mean <= may_be(before.mean) && now.median <= may_be(before.median)) return {};
  return fmt::format(
      "the error of rebuilding this node's own samples rises in int8 from {:.4g} to {:.4g} in the mean, from "
      "{:.4g} to {:.4g} in the median, and {} of it is allowed",
      before.mean, now.mean, before.median, now.median, int8_loss_max);
}

/// Where all samples get the same answer there is nothing to measure by: then any difference is too much.
std::optional<std::string> find_drift(Answers in_float, Answers in_int8) {
  const auto count = static_cast<double>(in_float.size());
  for (std::size_t k = 0; k < in_float.front().value.size(); ++k) {
    double mean = 0;
    for (const Prediction& one : in_float) mean += one.value[k] / count;
    double variance = 0, off = 0;  // The answers' own, and the mean square of how far int8 is from them.
    for (std::size_t i = 0; i < in_float.size(); ++i) {
      const double answer = in_float[i].value[k];
      variance += (answer - mean) * (answer - mean) / count;
      off += (in_int8[i].value[k] - answer) * (in_int8[i].value[k] - answer) / count;
    }
    if (std::sqrt(off) <= int8_drift_max * std::sqrt(variance)) continue;
    return fmt::format(
        "value {} of the answers to this node's own samples is {:.4g} off in int8, in root mean square, and "
        "{} of their standard deviation of {:.4g} is allowed",
        k, std::sqrt(off), int8_drift_max, std::sqrt(variance));
  }
  return {};
}

}  // namespace

std::optional<std::string> find_int8_fault(TaskKind task, Answers in_float, Answers in_int8) {
  switch (task) {
    case TaskKind::classification: return find_other_classes(in_float, in_int8);
    case TaskKind::anomaly: return find_growth(in_float, in_int8);
    case TaskKind::regression: return find_drift(in_float, in_int8);
  }
  return "of this task int8 is not compared";
}

}  // namespace rivulet::node
