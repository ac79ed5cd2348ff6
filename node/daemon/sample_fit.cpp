#include "node/daemon/sample_fit.h"

#include <spdlog/fmt/fmt.h>

#include "models/dataset/csv.h"
#include "models/dataset/dataset.h"

namespace rivulet::node {

SampleFit fit_of(const Release& release) {
  return {release.name, release.architecture.input_size(), release.task, release.classes,
          release.architecture.outputs};
}

Status SampleFit::check(std::span<const float> sample, std::optional<std::string_view> label) const {
  if (sample.size() != inputs) {
    return fail(Errc::invalid,
                fmt::format("it has {} numbers, and the model {} takes {}{}", sample.size(), model, inputs,
                            sample.size() == inputs + 1 ? ": is one of them the label?" : ""));
  }
  if (!label || task == TaskKind::anomaly) return {};
  const std::string shown(label->substr(0, 64));
  if (task == TaskKind::classification && !class_index(classes, *label)) {
    return fail(Errc::invalid, fmt::format("its label '{}' is no class of the model {}", shown, model));
  }
  if (task == TaskKind::regression && outputs != 1) {
    return fail(
        Errc::invalid,
        fmt::format("its label is one number, and the model {} answers {}: import one with one output", model,
                    outputs));
  }
  if (task == TaskKind::regression && !parse_float(*label)) {
    return fail(Errc::invalid,
                fmt::format("its label '{}' is no number, as the model {} takes it", shown, model));
  }
  return {};
}

bool SampleFit::uses(std::span<const float> sample, std::optional<std::string_view> label) const {
  return (label || task == TaskKind::anomaly) && check(sample, label).has_value();
}

}  // namespace rivulet::node
