#include "models/runtime/int8/vnni_kernels.h"

#include <algorithm>
#include <cstring>

#include "protocol/assert.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rivulet::int8 {
namespace {

constexpr std::int64_t lanes = 16;    // Sums of 32 bits in a register.
constexpr std::int64_t products = 4;  // Bytes that one instruction adds to each of them.
constexpr std::int64_t taps = 9;

constexpr float beyond = 1024;  // Becomes 255 all the same; what has more than 32 bits would turn negative.

std::int64_t strided(std::int64_t size, std::int64_t stride) { return (size + stride - 1) / stride; }

std::int64_t padded(std::int64_t channels) { return (channels + lanes - 1) / lanes * lanes; }

/// @param weights [outputs, each]
ChannelTerms terms_of(std::int64_t outputs, std::int64_t each, const std::int8_t* weights,
                      const float* scales, const float* biases) {
  const auto size = static_cast<std::size_t>(padded(outputs));
  ChannelTerms terms{std::vector<float>(size), std::vector<float>(size), std::vector<std::int32_t>(size)};
  for (std::int64_t o = 0; o < outputs; ++o) {
    const auto at = static_cast<std::size_t>(o);
    terms.scales[at] = scales[o];
    terms.biases[at] = biases[o];
    for (std::int64_t i = 0; i < each; ++i) terms.weight_sums[at] += weights[o * each + i];
  }
  return terms;
}

}  // namespace

PointwiseWeights pack_pointwise(std::int64_t outputs, std::int64_t inputs, const std::int8_t* weights,
                                const float* scales, const float* biases) {
  RIVULET_ASSERT(inputs % products == 0);
  PointwiseWeights packed{inputs, outputs, {}, terms_of(outputs, inputs, weights, scales, biases)};
  packed.entries.resize(static_cast<std::size_t>(padded(outputs) * inputs));
  for (std::int64_t o = 0; o < outputs; ++o)
    for (std::int64_t i = 0; i < inputs; ++i) {
      const std::int64_t block = (o / lanes) * (inputs / products) + i / products;
      const std::int64_t place = (block * lanes + o % lanes) * products + i % products;
      packed.entries[static_cast<std::size_t>(place)] = weights[o * inputs + i];
    }
  return packed;
}

DepthwiseWeights pack_depthwise(std::int64_t channels, std::int64_t stride, const std::int8_t* weights,
                                const float* scales, const float* biases) {
  DepthwiseWeights packed{channels, stride, {}, terms_of(channels, taps, weights, scales, biases)};
  packed.entries.resize(static_cast<std::size_t>(taps * padded(channels)));
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t tap = 0; tap < taps; ++tap)
      packed.entries[static_cast<std::size_t>(tap * padded(channels) + c)] = weights[c * taps + tap];
  return packed;
}

#if defined(__x86_64__)

#define RIVULET_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

bool has_vnni_kernels() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
}

namespace {

/// The requantization of 16 channels.
struct Lanes {
  __m512 factor;
  __m512 shift;
  __m512i surplus;
  __m512i zero;
  __m512i least;
  __mmask16 mask;
};

RIVULET_VNNI inline __mmask16 mask_of(std::int64_t channels, std::int64_t first) {
  return static_cast<__mmask16>(0xFFFFU >> std::max<std::int64_t>(0, lanes - (channels - first)));
}

RIVULET_VNNI inline Lanes lanes_of(const ChannelTerms& terms, const Requantization& numbers,
                                   std::int64_t channels, std::int64_t first) {
  Lanes out;
  out.factor = _mm512_mul_ps(_mm512_loadu_ps(terms.scales.data() + first),
                             _mm512_set1_ps(numbers.scale_x / numbers.scale_y));
  out.shift =
      _mm512_mul_ps(_mm512_loadu_ps(terms.biases.data() + first), _mm512_set1_ps(1 / numbers.scale_y));
  out.surplus = _mm512_mullo_epi32(_mm512_loadu_si512(terms.weight_sums.data() + first),
                                   _mm512_set1_epi32(numbers.zero_x));
  out.zero = _mm512_set1_epi32(numbers.zero_y);
  out.least = _mm512_set1_epi32(numbers.has_relu ? numbers.zero_y : 0);
  out.mask = mask_of(channels, first);
  return out;
}

RIVULET_VNNI inline void store(const Lanes& to, __m512i sum, std::uint8_t* y) {
  const __m512 value =
      _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, to.surplus)), to.factor, to.shift);
  const __m512i rounded = _mm512_cvtps_epi32(_mm512_min_ps(value, _mm512_set1_ps(beyond)));
  _mm512_mask_cvtusepi32_storeu_epi8(y, to.mask,
                                     _mm512_max_epi32(_mm512_add_epi32(rounded, to.zero), to.least));
}

/// `Rows` rows of x times one or two registers' worth of outputs.
template <int Rows, int Registers>
RIVULET_VNNI inline void multiply(const PointwiseWeights& weights, const Lanes* to, std::int64_t first,
                                  const std::uint8_t* x, std::uint8_t* y) {
  const std::int64_t steps = weights.inputs / products;
  const std::int8_t* const entries = weights.entries.data() + first * weights.inputs;
  __m512i sums[Rows][Registers];
  for (int row = 0; row < Rows; ++row)
    for (int r = 0; r < Registers; ++r) sums[row][r] = _mm512_setzero_si512();
  for (std::int64_t step = 0; step < steps; ++step) {
    __m512i w[Registers];
    for (int r = 0; r < Registers; ++r)
      w[r] = _mm512_loadu_si512(entries + (r * steps + step) * lanes * products);
    for (int row = 0; row < Rows; ++row) {
      std::int32_t four = 0;
      std::memcpy(&four, x + row * weights.inputs + step * products, sizeof four);
      const __m512i bytes = _mm512_set1_epi32(four);
      for (int r = 0; r < Registers; ++r) sums[row][r] = _mm512_dpbusd_epi32(sums[row][r], bytes, w[r]);
    }
  }
  for (int row = 0; row < Rows; ++row)
    for (int r = 0; r < Registers; ++r)
      store(to[r], sums[row][r], y + row * weights.outputs + first + r * lanes);
}

template <int Registers>
RIVULET_VNNI void multiply_all(const PointwiseWeights& weights, const Requantization& numbers,
                               std::int64_t first, std::int64_t rows, const std::uint8_t* x,
                               std::uint8_t* y) {
  constexpr int block = 8;
  Lanes to[Registers];
  for (int r = 0; r < Registers; ++r)
    to[r] = lanes_of(weights.terms, numbers, weights.outputs, first + r * lanes);
  std::int64_t row = 0;
  for (; row + block <= rows; row += block)
    multiply<block, Registers>(weights, to, first, x + row * weights.inputs, y + row * weights.outputs);
  for (; row + 4 <= rows; row += 4)
    multiply<4, Registers>(weights, to, first, x + row * weights.inputs, y + row * weights.outputs);
  for (; row < rows; ++row)
    multiply<1, Registers>(weights, to, first, x + row * weights.inputs, y + row * weights.outputs);
}

/// A frame of zero points around an image, so that every tap finds something.
void frame(const std::uint8_t* x, std::int64_t height, std::int64_t width, std::int64_t channels,
           std::int32_t zero, std::vector<std::uint8_t>& out) {
  const auto row = static_cast<std::size_t>(width * channels);
  const auto side = static_cast<std::size_t>(channels);
  const std::size_t framed = row + 2 * side;
  out.resize(framed * static_cast<std::size_t>(height + 2));
  std::memset(out.data(), zero, framed);
  std::memset(out.data() + framed * static_cast<std::size_t>(height + 1), zero, framed);
  for (std::int64_t i = 0; i < height; ++i) {
    std::uint8_t* const to = out.data() + framed * static_cast<std::size_t>(i + 1);
    std::memset(to, zero, side);
    std::memcpy(to + side, x + static_cast<std::size_t>(i) * row, row);
    std::memset(to + side + row, zero, side);
  }
}

struct Rows {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// 16 channels of some rows of the answer. @param x framed.
RIVULET_VNNI void slide(const DepthwiseWeights& weights, const Lanes& to, std::int64_t first, Rows rows,
                        std::int64_t width, const std::uint8_t* x, std::uint8_t* y) {
  const std::int64_t row_bytes = (width + 2) * weights.channels;
  const std::int64_t columns = strided(width, weights.stride);
  const std::int32_t* const entries = weights.entries.data() + first;
  __m512i w[taps];
  std::int64_t offsets[taps];
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    w[tap] = _mm512_loadu_si512(entries + tap * padded(weights.channels));
    offsets[tap] = tap / 3 * row_bytes + tap % 3 * weights.channels + first;
  }
  for (std::int64_t i = rows.begin; i < rows.end; ++i)
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::uint8_t* const corner =
          x + i * weights.stride * row_bytes + j * weights.stride * weights.channels;
      __m512i sum = _mm512_setzero_si512();
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        const __m512i bytes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(to.mask, corner + offsets[tap]));
        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(bytes, w[tap]));
      }
      store(to, sum, y + (i * columns + j) * weights.channels + first);
    }
}

}  // namespace

void run_pointwise(const PointwiseWeights& weights, const Requantization& numbers, std::int64_t rows,
                   const std::uint8_t* x, std::uint8_t* y) {
  std::int64_t first = 0;
  for (; first + lanes < weights.outputs; first += 2 * lanes)
    multiply_all<2>(weights, numbers, first, rows, x, y);
  if (first < weights.outputs) multiply_all<1>(weights, numbers, first, rows, x, y);
}

RIVULET_VNNI void run_depthwise(const DepthwiseWeights& weights, const Requantization& numbers,
                                std::int64_t images, std::int64_t height, std::int64_t width,
                                const std::uint8_t* x, std::uint8_t* y) {
  constexpr std::int64_t cached_bytes =
      24 * 1024;  // What stays in the first cache from 16 channels to the next.
  thread_local std::vector<std::uint8_t> framed;  // Taken anew, it would cost more than a small image.
  const std::int64_t rows = strided(height, weights.stride);
  const std::int64_t pass =
      std::max<std::int64_t>(1, cached_bytes / ((width + 2) * weights.channels * weights.stride));
  for (std::int64_t image = 0; image < images; ++image) {
    frame(x + image * height * width * weights.channels, height, width, weights.channels, numbers.zero_x,
          framed);
    std::uint8_t* const to = y + image * rows * strided(width, weights.stride) * weights.channels;
    for (std::int64_t row = 0; row < rows; row += pass)
      for (std::int64_t first = 0; first < weights.channels; first += lanes)
        slide(weights, lanes_of(weights.terms, numbers, weights.channels, first), first,
              {row, std::min(rows, row + pass)}, width, framed.data(), to);
  }
}

RIVULET_VNNI void quantize(const float* x, std::int64_t count, float scale, std::int32_t zero,
                           std::uint8_t* y) {
  const __m512 factor = _mm512_set1_ps(1 / scale);
  const __m512i zeros = _mm512_set1_epi32(zero);
  for (std::int64_t i = 0; i < count; i += lanes) {
    const __mmask16 mask = mask_of(count, i);
    const __m512 value = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_min_ps(value, _mm512_set1_ps(beyond)));
    const __m512i shifted = _mm512_max_epi32(_mm512_add_epi32(rounded, zeros), _mm512_setzero_si512());
    _mm512_mask_cvtusepi32_storeu_epi8(y + i, mask, shifted);
  }
}

#undef RIVULET_VNNI

#else

bool has_vnni_kernels() { return false; }

void run_pointwise(const PointwiseWeights&, const Requantization&, std::int64_t, const std::uint8_t*,
                   std::uint8_t*) {
  RIVULET_ASSERT(has_vnni_kernels());
}

void run_depthwise(const DepthwiseWeights&, const Requantization&, std::int64_t, std::int64_t, std::int64_t,
                   const std::uint8_t*, std::uint8_t*) {
  RIVULET_ASSERT(has_vnni_kernels());
}

void quantize(const float*, std::int64_t, float, std::int32_t, std::uint8_t*) {
  RIVULET_ASSERT(has_vnni_kernels());
}

#endif

}  // namespace rivulet::int8
