#include <spdlog/fmt/fmt.h>

#include <cmath>

#include "protocol/assert.h"
#include "protocol/codec/segment_codec.h"

// Compiles the code between HWY_BEFORE_NAMESPACE and HWY_AFTER_NAMESPACE once for each instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "protocol/codec/fp32.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace rivulet::segment_codec::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Copies the entries and looks at them in one pass: memory is the limit.
/// @return whether all are finite.
bool copy_finite(const std::byte* HWY_RESTRICT wire, std::size_t size, float* HWY_RESTRICT out) {
  // Infinities and NaNs are those with all exponent bits set: one more at the lowest of these carries
  // into the place of the sign.
  constexpr std::uint32_t sign = 0x8000'0000;
  constexpr std::uint32_t lowest_exponent_bit = 0x0080'0000;
  const hn::ScalableTag<std::uint32_t> words;
  const std::size_t lanes = hn::Lanes(words);
  auto carried = hn::Zero(words);
  std::size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    // LoadU and StoreU take addresses that are aligned to nothing.
    const auto entry = hn::LoadU(words, reinterpret_cast<const std::uint32_t*>(wire + i * sizeof(float)));
    hn::StoreU(entry, words, reinterpret_cast<std::uint32_t*>(out + i));
    carried = hn::Or(carried,
                     hn::Add(hn::AndNot(hn::Set(words, sign), entry), hn::Set(words, lowest_exponent_bit)));
  }
  std::uint32_t found =
      hn::AllTrue(words, hn::Eq(hn::And(carried, hn::Set(words, sign)), hn::Zero(words))) ? 0 : sign;
  for (; i < size; ++i) {
    std::memcpy(out + i, wire + i * sizeof(float), sizeof(float));
    found |= (std::bit_cast<std::uint32_t>(out[i]) & ~sign) + lowest_exponent_bit;
  }
  return (found & sign) == 0;
}

}  // namespace rivulet::segment_codec::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rivulet::segment_codec {

HWY_EXPORT(copy_finite);

void encode_fp32(std::span<const float> entries, Bytes& wire) {
  const ByteSpan bytes = std::as_bytes(entries);
  wire.insert(wire.end(), bytes.begin(), bytes.end());
}

Status decode_fp32(ByteSpan wire, std::span<float> out) {
  RIVULET_ASSERT(wire.size() == out.size_bytes());
  if (HWY_DYNAMIC_DISPATCH(copy_finite)(wire.data(), out.size(), out.data())) return {};
  const auto bad = std::ranges::find_if_not(out, [](float x) { return std::isfinite(x); });
  return fail(Errc::corrupt, fmt::format("entry {} is not finite", bad - out.begin()), Reason::not_finite);
}

}  // namespace rivulet::segment_codec
#endif  // HWY_ONCE
