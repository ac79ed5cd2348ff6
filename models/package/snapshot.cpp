#include "models/package/snapshot.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "protocol/assert.h"
#include "protocol/sha256.h"

namespace rivulet {
namespace {

constexpr float steps = 127.0F;

bool is_quantized(SnapshotForm form, const TensorSpec& tensor) {
  return form == SnapshotForm::int8 && tensor.kind == TensorKind::parameter && tensor.shape.size() >= 2;
}

std::size_t channels_of(const TensorSpec& tensor) { return static_cast<std::size_t>(tensor.shape.front()); }

std::size_t encoded_size(SnapshotForm form, const TensorSpec& tensor) {
  if (!is_quantized(form, tensor)) return tensor.size() * sizeof(float);
  return channels_of(tensor) * sizeof(float) + tensor.size();
}

float scale_of(std::span<const float> channel) {
  float largest = 0.0F;
  for (const float value : channel) largest = std::max(largest, std::fabs(value));
  const float scale = largest / steps;
  // Rounded up at the end of float32's range, the largest entry would decode to infinity.
  return std::isfinite(scale * steps) ? scale : std::nextafter(scale, 0.0F);
}

void encode_channel(std::span<const float> channel, float scale, Bytes& out) {
  for (const float value : channel) {
    // The quotient may exceed 127 where the scale is subnormal, and so coarse.
    const float entry = scale == 0.0F ? 0.0F : std::clamp(std::nearbyint(value / scale), -steps, steps);
    out.push_back(static_cast<std::byte>(static_cast<std::int8_t>(entry)));
  }
}

Status decode_plain(const TensorSpec& tensor, ByteSpan source, std::span<float> out) {
  std::memcpy(out.data(), source.data(), source.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!std::isfinite(out[i])) {
      return fail(Errc::corrupt, fmt::format("entry {} of tensor '{}' is not finite", i, tensor.name));
    }
  }
  return {};
}

Status decode_quantized(const TensorSpec& tensor, ByteSpan source, std::span<float> out) {
  const std::size_t channels = channels_of(tensor);
  const std::size_t width = tensor.size() / channels;
  const ByteSpan entries = source.subspan(channels * sizeof(float));
  for (std::size_t channel = 0; channel < channels; ++channel) {
    const auto scale = load_le<float>(source, channel * sizeof(float));
    if (std::signbit(scale) || !std::isfinite(scale * steps)) {
      return fail(Errc::corrupt,
                  fmt::format("the scale of channel {} of tensor '{}' is {}", channel, tensor.name, scale));
    }
    for (std::size_t i = channel * width; i < (channel + 1) * width; ++i) {
      const auto entry = static_cast<std::int8_t>(entries[i]);
      if (entry == -128 || (scale == 0.0F && entry != 0)) {
        return fail(Errc::corrupt, fmt::format("entry {} of tensor '{}' is {} beside a scale of {}", i,
                                               tensor.name, static_cast<int>(entry), scale));
      }
      out[i] = static_cast<float>(entry) * scale;
    }
  }
  return {};
}

}  // namespace

std::string_view name(SnapshotForm form) { return form == SnapshotForm::int8 ? "int8" : "fp32"; }

Result<Bytes> encode_snapshot(SnapshotForm form, const ParameterLayout& layout,
                              std::span<const float> weights) {
  RIVULET_ASSERT(weights.size() == layout.size());
  Bytes out;
  out.reserve(snapshot_size(form, layout));
  for (const TensorSpec& tensor : layout.tensors) {
    const auto values = weights.first(tensor.size());
    weights = weights.subspan(tensor.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) {
        return fail(Errc::invalid, fmt::format("entry {} of tensor '{}' is not finite", i, tensor.name));
      }
    }
    if (!is_quantized(form, tensor)) {
      const ByteSpan plain = std::as_bytes(values);
      out.insert(out.end(), plain.begin(), plain.end());
      continue;
    }
    const std::size_t channels = channels_of(tensor);
    const std::size_t width = values.size() / channels;
    std::vector<float> scales(channels);
    for (std::size_t c = 0; c < channels; ++c) {
      scales[c] = scale_of(values.subspan(c * width, width));
      append_le(out, scales[c]);
    }
    for (std::size_t c = 0; c < channels; ++c)
      encode_channel(values.subspan(c * width, width), scales[c], out);
  }
  return out;
}

Result<std::vector<float>> decode_snapshot(SnapshotForm form, const ParameterLayout& layout,
                                           ByteSpan snapshot) {
  const std::size_t expected = snapshot_size(form, layout);
  if (snapshot.size() != expected) {
    return fail(Errc::corrupt, fmt::format("the {} snapshot has {} bytes; the layout asks for {}", name(form),
                                           snapshot.size(), expected));
  }
  std::vector<float> weights(layout.size());
  std::span<float> rest(weights);
  for (const TensorSpec& tensor : layout.tensors) {
    const ByteSpan source = snapshot.first(encoded_size(form, tensor));
    const auto out = rest.first(tensor.size());
    const Status decoded = is_quantized(form, tensor) ? decode_quantized(tensor, source, out)
                                                      : decode_plain(tensor, source, out);
    if (!decoded) return std::unexpected(decoded.error());
    snapshot = snapshot.subspan(source.size());
    rest = rest.subspan(out.size());
  }
  return weights;
}

std::size_t snapshot_size(SnapshotForm form, const ParameterLayout& layout) {
  std::size_t bytes = 0;
  for (const TensorSpec& tensor : layout.tensors) bytes += encoded_size(form, tensor);
  return bytes;
}

Digest weights_hash_of(std::span<const float> weights) { return sha256(std::as_bytes(weights)); }

}  // namespace rivulet
