#pragma once

#include <cstdint>

#include "models/package/architecture.h"
#include "models/package/pruning.h"

namespace rivulet {

class TomlReader;

/// Reads `architecture` and the keys of its kind from [model], which specifications and experiments
/// share; what is left out is as default_architecture has it. A key of another kind is an error of
/// `model` that names the kind's own.
/// @return the architecture without shape and outputs; any sound one after an error.
/// @param user whether "torchscript" is one of the choices; its keys are left to the caller.
Architecture read_architecture(TomlReader& model, bool user = false);

/// Reads `shape` from [input]. @return `otherwise` if it is absent or wrong.
std::vector<std::int64_t> read_shape(TomlReader& input, const std::vector<std::int64_t>& otherwise);

/// Reads `sparsity`, `begin` and `rounds` from [pruning], which specifications and experiments share.
PruningPlan read_pruning(TomlReader pruning);

}  // namespace rivulet
