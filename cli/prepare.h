#pragma once

#include "cli/prepared_model.h"

namespace rivulet::cli {

struct PrepareOptions {
  FleetId fleet;
  std::uint64_t seed = 1;  ///< Of w_0 and of the known inputs.
  std::uint64_t epoch = 0;
  UtcTime created;
};

/// So many samples the release has known answers for; fewer where these would not fit in a manifest.
inline constexpr std::size_t known_inputs_count = 4;

/// Makes of a specification what the release key signs: builds the network, draws w_0, reads holdout and
/// test split, and runs the network forwards and backwards once. The known inputs are drawn within the
/// range of each input (of holdout and test split, else mean ± scale): no sample of the operator's goes to
/// the nodes. The same specification, data and options give the same model.
/// @return invalid or corrupt with the file, line or key; unsupported; internal.
Result<PreparedModel> prepare_model(const ModelSpec& spec, const PrepareOptions& options);

/// The TorchScript file of a release with these weights, of which Python's torch.jit.load makes the same
/// network: from preprocessed inputs to logits or values. @return what build_model returns; invalid for other
/// weights.
Result<Bytes> export_torchscript(const Release& release, std::span<const float> weights);

}  // namespace rivulet::cli
