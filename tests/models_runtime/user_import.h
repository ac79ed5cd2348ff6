#pragma once

#include "models/runtime/torchscript/trial.h"
#include "tests/models_runtime/python_networks.h"
#include "tests/models_runtime/reference_networks.h"

namespace rivulet::tests {

/// As an import does it: build, then try.
inline Status import_file(const Bytes& file, TaskKind task = TaskKind::classification,
                          const Architecture& architecture = image_architecture) {
  auto model = Model::build(architecture, file);
  if (!model) return std::unexpected(model.error());
  const auto inputs = reference::uniform(4 * architecture.input_size(), 0, 1, 3);
  const auto notes = torchscript::try_network(*model, task, inputs);
  if (!notes) return std::unexpected(notes.error());
  return {};
}

}  // namespace rivulet::tests
