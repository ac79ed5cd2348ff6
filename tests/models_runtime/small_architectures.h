#pragma once

#include <string>

#include "models/package/architecture.h"

namespace rivulet {

/// One network of each built-in kind, small and yet with every sort of layer that the kind has.
inline Architecture small_architecture(const std::string& kind) {
  Architecture architecture = default_architecture(kind);
  architecture.outputs = 3;
  architecture.input_shape = {6};
  if (kind == "mlp") architecture.hidden = {5, 4};
  if (kind == "mcmahan_cnn") architecture.input_shape = {1, 28, 28};
  if (kind == "cnn") {
    architecture.input_shape = {2, 9, 6};
    architecture.channels = {3, 4};
    architecture.hidden = {5};
  }
  if (kind == "cnn1d") {
    architecture.input_shape = {3, 11};
    architecture.channels = {4, 5};
    architecture.kernel = 3;
  }
  if (kind == "gru") {
    architecture.input_shape = {3, 7};
    architecture.hidden = {4};
  }
  if (kind == "autoencoder") {
    architecture.hidden = {4, 2};
    architecture.outputs = 6;
  }
  if (kind == "resnet18") {
    architecture.input_shape = {3, 9, 8};
    architecture.width = 4.0 / 64;
  }
  if (kind == "mobilenet_v2") {
    architecture.input_shape = {3, 9, 8};
    architecture.width = 0.1;
    architecture.resolution = 64;
  }
  return architecture;
}

}  // namespace rivulet
