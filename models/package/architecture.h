#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rivulet {

enum class TaskKind : std::uint8_t { classification, regression, anomaly };

/// What a regression's error e counts in training and in scores; the mean over a sample's values. The other
/// tasks have one loss each: cross-entropy, and the squared error of rebuilding the input.
enum class RegressionLoss : std::uint8_t {
  squared,   ///< e^2: "mse".
  huber,     ///< e^2 / 2 up to |e| = 1, |e| - 1/2 beyond (Huber 1964): "huber".
  absolute,  ///< |e|: "mae".
};
/// @return the loss of an error, in double.
double loss_of(RegressionLoss loss, double error);

/// What is needed to build a network; the runtime turns it into a TorchScript module. The kinds, with
/// the fields that each has (the others stay empty or 0), are described one by one, with their shapes
/// and sizes, in models/runtime/architectures/families.h; docs/models.md has them as a table.
struct Architecture {
  std::string kind;                         ///< One of architecture_kinds().
  std::vector<std::int64_t> hidden{};       ///< Sizes of dense layers; of a "gru" that of its state.
  std::vector<std::int64_t> input_shape{};  ///< Without the batch dimension.
  std::int64_t outputs = 0;                 ///< Classes, values of a regression, or rebuilt inputs.
  std::vector<std::int64_t> channels{};     ///< Outputs of one convolution after the other.
  std::int64_t kernel = 0;                  ///< Extent of each convolution in each direction; odd.
  std::int64_t pool = 0;                    ///< Window and step of the max-pooling behind each; 1 is none.
  double width = 0;                         ///< The paper's numbers of channels are multiplied by it.
  std::int64_t groups = 0;                  ///< Of each group normalization.
  std::int64_t resolution = 0;              ///< Images are brought to this height and width; 0: as they are.

  bool operator==(const Architecture&) const = default;
  /// The product of `input_shape`: how many numbers one sample has.
  [[nodiscard]] std::size_t input_size() const;
};

/// The kind of a network that the user brings as a TorchScript file; it has input_shape and outputs alone.
inline constexpr std::string_view user_architecture = "torchscript";

/// The names of all built-in networks: mlp, mcmahan_cnn, cnn, cnn1d, gru, autoencoder, resnet18,
/// mobilenet_v2.
const std::vector<std::string>& architecture_kinds();

/// A network of a built-in `kind` with that kind's usual sizes; shape and outputs are left to the caller.
Architecture default_architecture(std::string_view kind);

/// Why an architecture is no network, in the words of a specification.
struct ArchitectureFault {
  std::string section;  ///< "model" or "input".
  std::string key;
  std::string why;  ///< Reads on after the key.
};

/// What is wrong with the fields that [model] sets, whatever the input is: one that the kind lacks
/// or that is out of its range. @param architecture  of a built-in kind.
std::optional<ArchitectureFault> find_model_fault(const Architecture& architecture);

/// What does not fit the input's shape or the outputs, such as a layer that leaves nothing to the next.
/// @param architecture  without a model fault; each dimension at least 1.
std::optional<ArchitectureFault> find_shape_fault(const Architecture& architecture);

}  // namespace rivulet
