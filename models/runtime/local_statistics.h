#pragma once

#include <span>
#include <vector>

#include "models/runtime/model.h"
#include "protocol/result.h"

namespace rivulet {

/// The same weights with batch norm's running statistics as these samples give them, and nothing left of
/// those before, whatever the norm's momentum: what training on them long enough would leave, had it not
/// changed a parameter. Norms with a momentum of 0 keep theirs. For fleets whose nodes see different worlds
/// (Li et al. 2021, FedBN, arXiv:2102.07623).
/// @param inputs [n * input_size] preprocessed; with fewer than 2 samples the statistics stay as they are.
/// @return [model.size()]; what running the network fails with. The model has these weights then.
Result<std::vector<float>> with_local_statistics(Model& model, std::span<const float> weights,
                                                 std::span<const float> inputs);

}  // namespace rivulet
