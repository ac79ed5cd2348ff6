#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <limits>

#include "protocol/assert.h"
#include "protocol/codec/segment_codec.h"

// Compiles the code between HWY_BEFORE_NAMESPACE and HWY_AFTER_NAMESPACE once for each instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "protocol/codec/int8.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace rivulet::segment_codec::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Writes entries[i] * scale: one rounding each, so all instruction sets agree.
/// @return whether an entry is -128.
bool multiply_block(const std::int8_t* HWY_RESTRICT entries, std::size_t size, float scale,
                    float* HWY_RESTRICT out) {
  const hn::ScalableTag<float> floats;
  const hn::Rebind<std::int32_t, decltype(floats)> ints;
  const hn::Rebind<std::int8_t, decltype(floats)> bytes;
  const std::size_t lanes = hn::Lanes(floats);
  const auto factor = hn::Set(floats, scale);
  auto least = hn::Zero(ints);
  std::size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto wide = hn::PromoteTo(ints, hn::LoadU(bytes, entries + i));
    least = hn::Min(least, wide);
    hn::StoreU(hn::Mul(hn::ConvertTo(floats, wide), factor), floats, out + i);
  }
  std::int32_t lowest = hn::GetLane(hn::MinOfLanes(ints, least));
  for (; i < size; ++i) {
    lowest = entries[i] < lowest ? entries[i] : lowest;
    out[i] = static_cast<float>(entries[i]) * scale;
  }
  return lowest == -128;
}

}  // namespace rivulet::segment_codec::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rivulet::segment_codec {
namespace {

HWY_EXPORT(multiply_block);

constexpr float steps = 127.0F;
constexpr float scale_min = std::numeric_limits<float>::min();
// The quotient of the largest float and 127 is rounded up, so the last scale that is safe lies below it.
constexpr float scale_max =
    std::bit_cast<float>(std::bit_cast<std::uint32_t>(std::numeric_limits<float>::max() / steps) - 1);
static_assert(scale_max * steps <= std::numeric_limits<float>::max());

/// The smallest scale with which every entry of the block lies within 127 steps, so that rounding
/// clamps nothing and stays unbiased.
float choose_scale(std::span<const float> block) {
  float largest = 0.0F;
  for (const float x : block) largest = std::max(largest, std::abs(x));
  if (largest == 0.0F) return 0.0F;
  float scale = largest / steps;
  if (static_cast<double>(scale) * steps < static_cast<double>(largest)) {
    scale = std::nextafter(scale, std::numeric_limits<float>::infinity());
  }
  return std::clamp(scale, scale_min, scale_max);
}

/// Up with the probability of the fraction. @param draw uniform over all its values.
std::int8_t round_stochastically(double steps_from_zero, std::uint32_t draw) {
  const double below = std::floor(steps_from_zero);
  const double rounded = below + (static_cast<double>(draw) * 0x1p-32 < steps_from_zero - below ? 1.0 : 0.0);
  // Only a block whose scale met scale_max can leave the interval, by less than a step.
  return static_cast<std::int8_t>(std::clamp(rounded, -127.0, 127.0));
}

Status decode_block(ByteSpan wire, std::size_t block, std::span<float> out) {
  // As integers, positive floats are in the order of their values, and NaNs, infinities and negative
  // ones are above them all.
  const auto bits = load_le<std::uint32_t>(wire);
  const auto scale = std::bit_cast<float>(bits);
  const std::byte* entries = wire.data() + sizeof bits;
  if (bits == 0) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (entries[i] != std::byte{0}) {
        return fail(Errc::corrupt, fmt::format("entry {} of block {} is not 0 under the scale 0", i, block),
                    Reason::bad_scale);
      }
    }
    std::ranges::fill(out, 0.0F);
    return {};
  }
  if (bits < std::bit_cast<std::uint32_t>(scale_min) || bits > std::bit_cast<std::uint32_t>(scale_max)) {
    return fail(Errc::corrupt,
                fmt::format("the scale of block {} has the bits {:#010x}; it must be 0 or a normal "
                            "positive number up to {}",
                            block, bits, scale_max),
                Reason::bad_scale);
  }
  if (HWY_DYNAMIC_DISPATCH(multiply_block)(reinterpret_cast<const std::int8_t*>(entries), out.size(), scale,
                                           out.data())) {
    return fail(Errc::corrupt, fmt::format("block {} has an entry of -128", block));
  }
  return {};
}

}  // namespace

void encode_int8(std::span<const float> entries, Rng& rng, Bytes& wire) {
  for (std::size_t begin = 0; begin < entries.size(); begin += int8_block_entries) {
    const auto block = entries.subspan(begin, std::min(int8_block_entries, entries.size() - begin));
    const float scale = choose_scale(block);
    append_le(wire, scale);
    std::uint64_t draws = 0;  // 64 random bits serve two entries
    for (std::size_t i = 0; i < block.size(); ++i) {
      if (scale == 0.0F) {
        wire.push_back(std::byte{0});
        continue;
      }
      draws = i % 2 == 0 ? rng() : draws >> 32;
      const double ratio = static_cast<double>(block[i]) / static_cast<double>(scale);
      append_le(wire, round_stochastically(ratio, static_cast<std::uint32_t>(draws)));
    }
  }
}

Status decode_int8(ByteSpan wire, std::span<float> out) {
  RIVULET_ASSERT(wire.size() == segment_bytes(Codec::int8, out.size()));
  for (std::size_t block = 0; !out.empty(); ++block) {
    const std::size_t entries = std::min(int8_block_entries, out.size());
    const Status decoded = decode_block(wire, block, out.first(entries));
    if (!decoded) return decoded;
    wire = wire.subspan(sizeof(float) + entries);
    out = out.subspan(entries);
  }
  return {};
}

}  // namespace rivulet::segment_codec
#endif  // HWY_ONCE
