#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/package/layout.h"
#include "protocol/result.h"

namespace rivulet {

/// More than any network for devices has; keeps sums of sizes far from overflowing.
inline constexpr std::int64_t parameters_max = std::int64_t{1} << 30;

/// One module of a network, with TorchScript that answers from its own tensors alone.
struct Layer {
  std::string name;  ///< As the network's source calls it: "conv1".
  std::string type;  ///< Its class in torch.nn: LibTorch's passes know by it which layers they may fuse.
  std::vector<TensorSpec> tensors;  ///< Names without the layer's: "weight", "bias".
  std::string source;               ///< Of `forward`.
  bool has_mode = false;            ///< Whether `forward` reads `self.training`.
};

/// A network as TorchScript: modules in the order of their use, and what goes on between them.
struct Network {
  std::vector<Layer> layers;
  std::string source;  ///< Of `forward`, from [n, …] to [n, outputs].

  /// The tensors of all layers, in order, named "layer.tensor".
  [[nodiscard]] ParameterLayout layout() const;
};

/// Puts a network together. Each layer's method adds the module alone, whose name the lines then call.
class NetworkBuilder {
 public:
  struct Convolution {
    std::int64_t inputs = 0;
    std::int64_t outputs = 0;
    std::int64_t kernel = 1;  ///< Odd; zeros pad the input by kernel / 2 on each side.
    std::int64_t stride = 1;
    bool has_bias = true;
    std::int64_t groups = 1;  ///< Each sees its share of the inputs alone; divides inputs and outputs.
  };

  /// x [n, inputs] -> x W^T + b [n, outputs].
  void dense(const std::string& name, std::int64_t inputs, std::int64_t outputs);
  /// [n, inputs, length] -> [n, outputs, ceil(length / stride)].
  void convolution_1d(const std::string& name, const Convolution& sizes);
  /// [n, inputs, height, width] -> [n, outputs, ceil(height / stride), ceil(width / stride)].
  void convolution_2d(const std::string& name, const Convolution& sizes);
  /// [n, channels, …] to the same shape; source: Wu and He 2018, arXiv:1803.08494, eps 1e-5.
  void group_norm(const std::string& name, std::int64_t channels, std::int64_t groups);
  /// [n, channels, height, width] to the same shape: in training by the mean and variance of each channel
  /// over the batch, which move the running ones by a tenth, and else by those. Source: Ioffe and Szegedy
  /// 2015, arXiv:1502.03167, eps 1e-5. Without num_batches_tracked, which nothing reads.
  void batch_norm_2d(const std::string& name, std::int64_t channels);
  /// [length, n, inputs] -> the last state [n, hidden], from a first one of zeros. Tensors have the
  /// names and the form that PyTorch's nn.GRU gives them.
  void gru(const std::string& name, std::int64_t inputs, std::int64_t hidden);

  /// One more line of `forward`, whose argument and result so far is `x`.
  void line(const std::string& text);

  /// @return too_large above parameters_max.
  Result<Network> finish(const std::string& kind) &&;

 private:
  void add(Layer layer);

  Network network_;
  std::int64_t parameters_ = 0;  // Stays at parameters_max + 1 once it is above the bound.
};

}  // namespace rivulet
