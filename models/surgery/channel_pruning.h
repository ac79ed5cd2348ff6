#pragma once

#include <span>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/layout.h"
#include "protocol/result.h"

namespace rivulet {

struct ChannelPruning {
  double fraction = 0.5;  ///< Of each layer's units that go, rounded down; above 0 and below 1.
  bool code = false;      ///< Also those of an autoencoder's code, which is what it is there to learn.
};

/// A network with its weights, flat in the order of its layout.
struct SizedNetwork {
  Architecture architecture;
  ParameterLayout layout;
  std::vector<float> weights;  ///< [layout.size()]
};

/// Takes from every hidden layer its weakest units (a convolution's output channels) with all that leads to
/// them and from them: tensors get smaller, and nothing of the rest changes. Weak is what has the smallest L1
/// norm of the weights into it, bias aside; of equal ones the later goes. Each layer is judged by the weights
/// as they were before any was taken. Outputs stay. What is left keeps its order, and a mcmahan_cnn becomes a
/// "cnn" with sizes of its own.
/// Source: Li et al. 2017, arXiv:1608.08710, section 3: "independent" pruning.
/// @param architecture of a sequence of layers: mlp, autoencoder, cnn, cnn1d, mcmahan_cnn; checked.
/// @param layout that of the architecture. @param weights [layout.size()], finite.
/// @return unsupported for other architectures, with the way out; invalid for a fraction out of its range or
/// one so small that no unit goes.
Result<SizedNetwork> prune_channels(const Architecture& architecture, const ParameterLayout& layout,
                                    std::span<const float> weights, const ChannelPruning& pruning);

}  // namespace rivulet
