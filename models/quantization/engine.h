#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/quantization/ranges.h"

namespace rivulet {

enum class EngineKind : std::uint8_t {
  fp32_script,     ///< The TorchScript module as it is.
  fp32_optimized,  ///< Frozen and optimized for inference: layers fused, weights laid out for the CPU.
  int8_static,     ///< Weights and activations in int8, by ranges that calibration found.
  int8_dynamic,    ///< Dense and recurrent layers in int8, their activations by each call's own range.
};

/// The library behind LibTorch's int8 operators.
enum class Int8Backend : std::uint8_t { none, fbgemm, qnnpack, onednn, x86 };

/// One way to run a model.
struct Engine {
  EngineKind kind = EngineKind::fp32_optimized;
  Int8Backend backend = Int8Backend::none;  ///< None of the fp32 engines has one, each int8 engine does.
  ActivationBits bits = ActivationBits::eight;

  bool operator==(const Engine&) const = default;
};

bool is_int8(EngineKind kind);
/// For logs and tables, e.g. "fp32-optimized", "int8-static-onednn", "int8-dynamic-qnnpack-7bit".
std::string name(const Engine& engine);

/// What came of trying an engine on a model.
struct EngineTrial {
  Engine engine;
  double microseconds = 0;  ///< Median of a call with one sample; only if not refused.
  std::string refusal;      ///< Why it may not serve: not built, or wrong. Empty: it is right.

  bool operator==(const EngineTrial&) const = default;
};

/// Int8 is taken only where it is faster by this fraction: what it costs in precision is certain, and a
/// smaller difference is within the noise of measuring.
inline constexpr double int8_gain_min = 0.05;

/// The fastest engine that is right: of the fp32 ones the fastest, unless an int8 one takes less than
/// (1 - int8_gain_min) of its time. Equal ones go to the earlier in the list. A time that is not a
/// positive finite number counts as refused. Pure.
/// @return its index in `trials`; nothing if all are refused.
std::optional<std::size_t> choose(std::span<const EngineTrial> trials);

}  // namespace rivulet
