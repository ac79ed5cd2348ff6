#pragma once

#include <span>
#include <string>
#include <vector>

#include "models/package/architecture.h"
#include "models/runtime/model.h"
#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet::torchscript {

/// Runs a user's network on samples, as answers and as training do, and says why it cannot take part: inputs
/// or outputs of another shape than the specification's, answers that are not finite or change from one time
/// to the next, a batch size that is built in, no gradient. Its code runs here for the first time.
/// @param model of Model::build. @param inputs [samples * input_size] preprocessed; 4 samples or more.
/// @return what the operator should know of a network that passed, one line each; invalid, refused.
Result<std::vector<std::string>> try_network(Model& model, TaskKind task, std::span<const float> inputs);

/// What a release signs of a user's file: see write_without_weights in network.h.
/// @param file that Model::build takes.
Result<Bytes> graph_of(ByteSpan file);

}  // namespace rivulet::torchscript
