#include "models/quantization/engine.h"

#include <cmath>

namespace rivulet {
namespace {

const char* name(EngineKind kind) {
  switch (kind) {
    case EngineKind::fp32_script: return "fp32-script";
    case EngineKind::fp32_optimized: return "fp32-optimized";
    case EngineKind::int8_static: return "int8-static";
    case EngineKind::int8_dynamic: return "int8-dynamic";
  }
  return "unknown";
}

const char* name(Int8Backend backend) {
  switch (backend) {
    case Int8Backend::none: return "none";
    case Int8Backend::fbgemm: return "fbgemm";
    case Int8Backend::qnnpack: return "qnnpack";
    case Int8Backend::onednn: return "onednn";
    case Int8Backend::x86: return "x86";
  }
  return "unknown";
}

bool is_eligible(const EngineTrial& trial) {
  return trial.refusal.empty() && std::isfinite(trial.microseconds) && trial.microseconds > 0;
}

std::optional<std::size_t> fastest(std::span<const EngineTrial> trials, bool int8) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (is_int8(trials[i].engine.kind) != int8 || !is_eligible(trials[i])) continue;
    if (!best || trials[i].microseconds < trials[*best].microseconds) best = i;
  }
  return best;
}

}  // namespace

bool is_int8(EngineKind kind) { return kind == EngineKind::int8_static || kind == EngineKind::int8_dynamic; }

std::string name(const Engine& engine) {
  std::string text = name(engine.kind);
  if (!is_int8(engine.kind)) return text;
  text += std::string("-") + name(engine.backend);
  if (engine.bits == ActivationBits::seven) text += "-7bit";
  return text;
}

std::optional<std::size_t> choose(std::span<const EngineTrial> trials) {
  const std::optional<std::size_t> fp32 = fastest(trials, false);
  const std::optional<std::size_t> int8 = fastest(trials, true);
  if (!fp32 || !int8) return fp32 ? fp32 : int8;
  const double bar = (1 - int8_gain_min) * trials[*fp32].microseconds;
  return trials[*int8].microseconds < bar ? int8 : fp32;
}

}  // namespace rivulet
