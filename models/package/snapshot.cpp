#include "models/package/snapshot.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "models/package/sparse.h"
#include "protocol/assert.h"
#include "protocol/sha256.h"

namespace rivulet {
namespace {

constexpr float steps = 127.0F;

/// The scale of a channel as it travels: the upper half of a float32.
using ScaleBits = std::uint16_t;

bool is_quantized(SnapshotForm form, const TensorSpec& tensor) {
  return dense_form(form) == SnapshotForm::int8 && tensor.is_weight();
}

std::size_t channels_of(const TensorSpec& tensor) { return static_cast<std::size_t>(tensor.shape.front()); }

/// Exact in a dense form; in a sparse one its entries have a byte more at most.
std::size_t encoded_size(SnapshotForm form, const TensorSpec& tensor) {
  const std::size_t coding = is_sparse(form) ? 1 : 0;
  if (!is_quantized(form, tensor)) return coding + tensor.size() * sizeof(float);
  return coding + channels_of(tensor) * sizeof(ScaleBits) + tensor.size();
}

template <typename Entry>
void append_entries(SnapshotForm form, std::span<const Entry> entries, Bytes& out) {
  if (is_sparse(form)) return append_sparse(entries, out);
  const ByteSpan bytes = std::as_bytes(entries);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

/// @param source  of a dense form it is long enough.
template <typename Entry>
Status take_entries(SnapshotForm form, const TensorSpec& tensor, ByteSpan& source, std::span<Entry> out) {
  if (is_sparse(form)) {
    const Status taken = take_sparse(source, out);
    return taken ? taken : fail_at(fmt::format("tensor '{}'", tensor.name), taken.error());
  }
  RIVULET_ASSERT(source.size() >= out.size_bytes());
  std::memcpy(out.data(), source.data(), out.size_bytes());
  source = source.subspan(out.size_bytes());
  return {};
}

float value_of(ScaleBits bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16U); }

float scale_of(std::span<const float> channel) {
  float largest = 0.0F;
  for (const float value : channel) largest = std::max(largest, std::fabs(value));
  const float exact = largest / steps;
  // Subnormal scales are too coarse for the largest entry to be 127.
  if (exact < std::numeric_limits<float>::min()) return 0.0F;
  const auto bits = std::bit_cast<std::uint32_t>(exact);
  const auto nearest = static_cast<ScaleBits>((bits + 0x7fffU + (bits >> 16U & 1U)) >> 16U);
  const float scale = value_of(nearest);
  return std::isfinite(scale * steps) ? scale : value_of(static_cast<ScaleBits>(nearest - 1));
}

/// @param entries [values.size()], written.
void encode_channel(std::span<const float> values, float scale, std::span<std::int8_t> entries) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    // The quotient may exceed 127, for the scale was rounded.
    const float entry = scale == 0.0F ? 0.0F : std::clamp(std::nearbyint(values[i] / scale), -steps, steps);
    entries[i] = static_cast<std::int8_t>(entry);
  }
}

void encode_quantized(SnapshotForm form, const TensorSpec& tensor, std::span<const float> values,
                      Bytes& out) {
  const QuantizedTensor quantized = quantize(values, channels_of(tensor));
  for (const float scale : quantized.scales)
    append_le(out, static_cast<ScaleBits>(std::bit_cast<std::uint32_t>(scale) >> 16U));
  append_entries(form, std::span<const std::int8_t>(quantized.entries), out);
}

Status take_plain(SnapshotForm form, const TensorSpec& tensor, ByteSpan& source, std::span<float> out) {
  if (Status taken = take_entries(form, tensor, source, out); !taken) return taken;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!std::isfinite(out[i])) {
      return fail(Errc::corrupt, fmt::format("entry {} of tensor '{}' is not finite", i, tensor.name));
    }
  }
  return {};
}

Status take_quantized(SnapshotForm form, const TensorSpec& tensor, ByteSpan& source, std::span<float> out) {
  const std::size_t channels = channels_of(tensor);
  const std::size_t width = out.size() / channels;
  if (source.size() < channels * sizeof(ScaleBits)) {
    return fail(Errc::corrupt, fmt::format("the scales of tensor '{}' are cut short", tensor.name));
  }
  const ByteSpan scales = source.first(channels * sizeof(ScaleBits));
  source = source.subspan(scales.size());
  std::vector<std::int8_t> entries(out.size());
  if (Status taken = take_entries(form, tensor, source, std::span(entries)); !taken) return taken;
  for (std::size_t channel = 0; channel < channels; ++channel) {
    const float scale = value_of(load_le<ScaleBits>(scales, channel * sizeof(ScaleBits)));
    if (std::signbit(scale) || !std::isfinite(scale * steps)) {
      return fail(Errc::corrupt,
                  fmt::format("the scale of channel {} of tensor '{}' is {}", channel, tensor.name, scale));
    }
    for (std::size_t i = channel * width; i < (channel + 1) * width; ++i) {
      const std::int8_t entry = entries[i];
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

std::string_view name(SnapshotForm form) {
  constexpr std::array<std::string_view, 4> names{"fp32", "int8", "sparse_fp32", "sparse_int8"};
  return names.at(static_cast<std::size_t>(form));
}

bool is_sparse(SnapshotForm form) {
  return form == SnapshotForm::sparse_fp32 || form == SnapshotForm::sparse_int8;
}

SnapshotForm dense_form(SnapshotForm form) {
  const bool int8 = form == SnapshotForm::int8 || form == SnapshotForm::sparse_int8;
  return int8 ? SnapshotForm::int8 : SnapshotForm::fp32;
}

SnapshotForm sparse_form(SnapshotForm form) {
  return dense_form(form) == SnapshotForm::int8 ? SnapshotForm::sparse_int8 : SnapshotForm::sparse_fp32;
}

SnapshotForm variant_form(std::string_view recipe, SnapshotForm version) {
  const SnapshotForm form = recipe == "int8" ? SnapshotForm::int8 : SnapshotForm::fp32;
  return is_sparse(version) ? sparse_form(form) : form;
}

QuantizedTensor quantize(std::span<const float> values, std::size_t channels) {
  RIVULET_ASSERT(channels > 0 && values.size() % channels == 0);
  const std::size_t width = values.size() / channels;
  QuantizedTensor quantized{std::vector<float>(channels), std::vector<std::int8_t>(values.size())};
  for (std::size_t channel = 0; channel < channels; ++channel) {
    const auto row = values.subspan(channel * width, width);
    quantized.scales[channel] = scale_of(row);
    encode_channel(row, quantized.scales[channel],
                   std::span(quantized.entries).subspan(channel * width, width));
  }
  return quantized;
}

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
    if (is_quantized(form, tensor)) {
      encode_quantized(form, tensor, values, out);
    } else {
      append_entries(form, values, out);
    }
  }
  return out;
}

Result<std::vector<float>> decode_snapshot(SnapshotForm form, const ParameterLayout& layout,
                                           ByteSpan snapshot) {
  if (!fits(form, layout, snapshot.size())) {
    return fail(Errc::corrupt,
                fmt::format("the {} snapshot has {} bytes; the layout asks for {}{}", name(form),
                            snapshot.size(), is_sparse(form) ? "at most " : "", snapshot_size(form, layout)));
  }
  std::vector<float> weights(layout.size());
  std::span<float> rest(weights);
  for (const TensorSpec& tensor : layout.tensors) {
    const auto out = rest.first(tensor.size());
    const Status taken = is_quantized(form, tensor) ? take_quantized(form, tensor, snapshot, out)
                                                    : take_plain(form, tensor, snapshot, out);
    if (!taken) return std::unexpected(taken.error());
    rest = rest.subspan(out.size());
  }
  if (!snapshot.empty()) {
    return fail(Errc::corrupt, fmt::format("the {} snapshot has {} bytes behind its last tensor", name(form),
                                           snapshot.size()));
  }
  return weights;
}

std::size_t snapshot_size(SnapshotForm form, const ParameterLayout& layout) {
  std::size_t bytes = 0;
  for (const TensorSpec& tensor : layout.tensors) bytes += encoded_size(form, tensor);
  return bytes;
}

bool fits(SnapshotForm form, const ParameterLayout& layout, std::uint64_t bytes) {
  const std::size_t size = snapshot_size(form, layout);
  return is_sparse(form) ? bytes <= size : bytes == size;
}

Digest weights_hash_of(std::span<const float> weights) { return sha256(std::as_bytes(weights)); }

}  // namespace rivulet
