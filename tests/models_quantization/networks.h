#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "models/runtime/architectures.h"
#include "models/runtime/inference.h"
#include "models/runtime/int8/backend.h"
#include "protocol/rng.h"

namespace rivulet::testing {

inline std::vector<float> uniform(std::size_t count, double low, double high, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(low + (high - low) * uniform_unit(rng));
  return values;
}

/// A regression, so that its answers are what the network itself answers.
inline InferenceSpec values_of(const Architecture& architecture) {
  return {architecture, layout_of(architecture).value(), TaskKind::regression, {}, {}};
}

inline InferenceSpec classes_of(const Architecture& architecture, Preprocessing preprocessing = {}) {
  return {
      architecture, layout_of(architecture).value(), TaskKind::classification, std::move(preprocessing), {}};
}

inline const Architecture small_mlp{.kind = "mlp", .hidden = {64, 32}, .input_shape = {20}, .outputs = 5};
inline const Architecture mcmahan_cnn{.kind = "mcmahan_cnn", .input_shape = {1, 28, 28}, .outputs = 10};

inline EngineSetup int8_setup(EngineKind kind, ActivationRanges ranges = {}) {
  return {{kind, int8_backends().at(0), activation_bits_of_cpu()}, std::move(ranges)};
}

/// 10 log10(signal / noise), in dB: 30 dB is an error of 3 %.
inline double signal_to_noise(std::span<const float> expected, std::span<const float> actual) {
  double signal = 0;
  double noise = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = static_cast<double>(actual[i]) - expected[i];
    signal += static_cast<double>(expected[i]) * expected[i];
    noise += error * error;
  }
  return 10 * std::log10(signal / noise);
}

}  // namespace rivulet::testing
