#include "models/runtime/int8/packing.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

#include "models/runtime/extraction.h"
#include "models/runtime/int8/module_int8.h"

namespace rivulet::int8 {
namespace {

using torch::jit::Module;
using torch::jit::Stack;

Stack call(const std::string& name, Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), "").callBoxed(stack);
  return stack;
}

enum class Layer { other, convolution, dense };

Layer layer_of(const c10::IValue& value) {
  if (!value.isObject()) return Layer::other;
  const std::string name = value.toObjectRef().type()->name()->name();
  if (name == "LinearPackedParamsBase") return Layer::dense;
  if (name != "Conv2dPackedParamsBase") return Layer::other;
  const bool transposed = call("quantized::conv2d_transpose", {value}).at(0).toInt() != 0;
  return transposed ? Layer::other : Layer::convolution;
}

/// Weight, and bias or none.
Stack unpack(const c10::IValue& value, Layer layer) {
  return call(layer == Layer::dense ? "quantized::linear_unpack" : "quantized::conv2d_unpack", {value});
}

c10::IValue pack(const c10::IValue& value, std::vector<at::Tensor>& unpacked) {
  const Layer layer = layer_of(value);
  if (layer == Layer::other) return value;
  Stack parts = unpack(value, layer);
  unpacked.push_back(parts.at(0).toTensor());
  if (layer == Layer::dense) return call("quantized::linear_prepack", std::move(parts)).at(0);
  for (const char* number : {"quantized::conv2d_stride", "quantized::conv2d_padding",
                             "quantized::conv2d_dilation", "quantized::conv2d_groups"}) {
    parts.push_back(call(number, {value}).at(0));
  }
  return call("quantized::conv2d_prepack", std::move(parts)).at(0);
}

}  // namespace

std::optional<Repacked> pack_again(const Module& module, Int8Backend backend) {
  const BackendGuard guard(backend);
  Repacked repacked;
  auto extracted = extract(module, [&](const c10::IValue& value) { return pack(value, repacked.unpacked); });
  if (!extracted) return std::nullopt;
  repacked.module = std::move(*extracted);
  return repacked;
}

void free_storage(std::span<const at::Tensor> tensors) {
  for (const at::Tensor& tensor : tensors) tensor.storage().unsafeGetStorageImpl()->release_resources();
}

}  // namespace rivulet::int8
