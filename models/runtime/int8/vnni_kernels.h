#pragma once

#include <cstdint>
#include <vector>

// Small int8 convolutions in the byte products of AVX-512 VNNI. LibTorch's spend most of their time, some
// 7 us each, on the way to the kernel, which a network of fifty small ones pays fifty times. Pure C++: no
// torch.
namespace rivulet::int8 {

/// Whether this CPU has the instructions; nothing below may be called without.
bool has_vnni_kernels();

/// How sums of integers become unsigned integers of a scale and a zero point:
///   y = clamp(round(sum * scale_x * scale_w / scale_y + bias / scale_y) + zero_y, least, 255)
/// with halves rounded to even.
struct Requantization {
  float scale_x = 1;
  std::int32_t zero_x = 0;
  float scale_y = 1;
  std::int32_t zero_y = 0;
  bool has_relu = false;  ///< Then nothing falls below zero_y.
};

/// What both sorts hold for each output channel, in lanes of 16, padded by zeros.
struct ChannelTerms {
  std::vector<float> scales;              ///< Of the weights.
  std::vector<float> biases;              ///< In the units of the answers.
  std::vector<std::int32_t> weight_sums;  ///< Times zero_x, what the sums have too much.
};

/// A dense layer, or a 1x1 convolution of stride 1: a product of matrices.
struct PointwiseWeights {
  std::int64_t inputs = 0;  ///< A multiple of 4.
  std::int64_t outputs = 0;
  std::vector<std::int8_t> entries;  ///< [outputs / 16][inputs / 4][16][4], outputs padded by zeros.
  ChannelTerms terms;
};

/// A 3x3 convolution of every channel by itself, with padding 1.
struct DepthwiseWeights {
  std::int64_t channels = 0;
  std::int64_t stride = 1;
  std::vector<std::int32_t> entries;  ///< [9][channels padded to 16].
  ChannelTerms terms;
};

/// @param weights [outputs, inputs] @param scales, biases [outputs]
PointwiseWeights pack_pointwise(std::int64_t outputs, std::int64_t inputs, const std::int8_t* weights,
                                const float* scales, const float* biases);
/// @param weights [channels, 3, 3] @param scales, biases [channels]
DepthwiseWeights pack_depthwise(std::int64_t channels, std::int64_t stride, const std::int8_t* weights,
                                const float* scales, const float* biases);

/// @param x [rows, inputs] @param y [rows, outputs]
void run_pointwise(const PointwiseWeights& weights, const Requantization& numbers, std::int64_t rows,
                   const std::uint8_t* x, std::uint8_t* y);
/// @param x [images, height, width, channels]
/// @param y [images, ceil(height / stride), ceil(width / stride), channels]
void run_depthwise(const DepthwiseWeights& weights, const Requantization& numbers, std::int64_t images,
                   std::int64_t height, std::int64_t width, const std::uint8_t* x, std::uint8_t* y);
/// y = clamp(round(x / scale) + zero, 0, 255) @param x, y [count]
void quantize(const float* x, std::int64_t count, float scale, std::int32_t zero, std::uint8_t* y);

}  // namespace rivulet::int8
