#pragma once

// Includes torch: only for the .cpp files of this folder.
#include <torch/script.h>

#include <cstddef>
#include <optional>
#include <span>

#include "models/runtime/inference.h"

namespace rivulet {

/// The float network of a specification, with copies of these weights, in eval mode and in a compilation
/// unit of its own. May throw, also for a user's graph that does not fit. @param weights that check(spec,
/// weights) accepts.
torch::jit::Module make_float_module(const InferenceSpec& spec, std::span<const float> weights);

/// Lets LibTorch fuse a frozen module's layers and lay its weights out for this CPU. May throw.
torch::jit::Module optimize_frozen(torch::jit::Module frozen);

/// What an engine runs: from [n, input_size] preprocessed inputs to [n, outputs].
struct EngineModules {
  torch::jit::Module single;                     ///< For one sample,
  std::optional<torch::jit::Module> batch = {};  ///< and for more, where that needs one of its own.
  std::vector<at::Tensor> unpacked = {};         ///< What int8::free_storage() may take once both have run.
  std::size_t batch_max = inference_batch;       ///< How many samples a call may have.
};

/// @return invalid for ranges of another network, unsupported where the engine can't run the model.
Result<EngineModules> make_engine_modules(const InferenceSpec& spec, std::span<const float> weights,
                                          const EngineSetup& setup);

}  // namespace rivulet
