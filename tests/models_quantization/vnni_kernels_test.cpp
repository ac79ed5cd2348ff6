#include "models/runtime/int8/vnni_kernels.h"

#include <algorithm>
#include <cmath>

#include "protocol/rng.h"
#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::int8;

namespace {

/// A layer's weights, and a picture, by chance.
struct Draw {
  std::vector<std::int8_t> weights;
  std::vector<float> scales;
  std::vector<float> biases;
  std::vector<std::uint8_t> x;

  Draw(std::int64_t outputs, std::int64_t each, std::int64_t points, std::uint64_t seed) {
    Rng rng(seed);
    const auto fraction = [&] { return uniform_unit(rng); };
    for (std::int64_t i = 0; i < outputs * each; ++i)
      weights.push_back(static_cast<std::int8_t>(std::floor(255 * fraction()) - 127));
    for (std::int64_t i = 0; i < outputs; ++i) {
      scales.push_back(static_cast<float>(0.001 + 0.004 * fraction()));
      biases.push_back(static_cast<float>(2 * fraction() - 1));
    }
    for (std::int64_t i = 0; i < points; ++i) x.push_back(static_cast<std::uint8_t>(256 * fraction()));
  }

  /// The definition, in double.
  [[nodiscard]] double answer(std::int64_t output, std::int64_t sum, const Requantization& numbers) const {
    const auto at = static_cast<std::size_t>(output);
    const double value =
        (static_cast<double>(sum) * numbers.scale_x * scales[at] + biases[at]) / numbers.scale_y;
    const double least = numbers.has_relu ? numbers.zero_y : 0;
    return std::clamp(value + numbers.zero_y, least, 255.0);
  }
};

/// Off by at most half a step, and what float32 adds to it.
void check_close(const std::vector<std::uint8_t>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  double worst = 0;
  std::size_t inner = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    worst = std::max(worst, std::abs(actual[i] - expected[i]));
    if (expected[i] > 0 && expected[i] < 255) ++inner;
  }
  CHECK(worst < 0.5 + 1e-3);
  CHECK(inner > actual.size() / 4);  // Or clamping would hide what goes wrong.
}

bool skipped() {
  if (has_vnni_kernels()) return false;
  WARN("skipped: this CPU has no AVX-512 VNNI");
  return true;
}

}  // namespace

TEST_CASE("a product of matrices in bytes is that of its numbers", "[int8][kernels]") {
  if (skipped()) return;
  struct Sizes {
    std::int64_t rows, inputs, outputs;
  };
  // Rows in blocks of 8, of 4 and alone; outputs with and without a rest in the last register.
  const auto [rows, inputs, outputs] =
      GENERATE(values<Sizes>({{1, 4, 1}, {8, 16, 16}, {13, 8, 24}, {3, 20, 33}, {29, 64, 80}, {4, 480, 48}}));
  const bool has_relu = GENERATE(false, true);
  CAPTURE(rows, inputs, outputs, has_relu);
  const Draw draw(outputs, inputs, rows * inputs, 1);
  const Requantization numbers{.scale_x = 0.02F,
                               .zero_x = 115,
                               .scale_y = 0.05F * std::sqrt(static_cast<float>(inputs)),
                               .zero_y = has_relu ? 0 : 120,
                               .has_relu = has_relu};
  const PointwiseWeights packed =
      pack_pointwise(outputs, inputs, draw.weights.data(), draw.scales.data(), draw.biases.data());
  std::vector<std::uint8_t> y(static_cast<std::size_t>(rows * outputs));
  run_pointwise(packed, numbers, rows, draw.x.data(), y.data());
  std::vector<double> expected;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t o = 0; o < outputs; ++o) {
      std::int64_t sum = 0;
      for (std::int64_t i = 0; i < inputs; ++i)
        sum += (draw.x[static_cast<std::size_t>(row * inputs + i)] - numbers.zero_x) *
               draw.weights[static_cast<std::size_t>(o * inputs + i)];
      expected.push_back(draw.answer(o, sum, numbers));
    }
  check_close(y, expected);
}

TEST_CASE("a depthwise convolution in bytes is that of its numbers, with zeros around", "[int8][kernels]") {
  if (skipped()) return;
  struct Sizes {
    std::int64_t images, height, width, channels;
  };
  // One large enough to be done in parts.
  const auto [images, height, width, channels] =
      GENERATE(values<Sizes>({{1, 1, 1, 16}, {2, 2, 3, 8}, {3, 7, 5, 24}, {1, 4, 4, 40}, {2, 40, 31, 48}}));
  const std::int64_t stride = GENERATE(1, 2);
  CAPTURE(images, height, width, channels, stride);
  const Draw draw(channels, 9, images * height * width * channels, 2);
  const Requantization numbers{.scale_x = 0.02F, .zero_x = 37, .scale_y = 0.2F, .zero_y = 100};
  const DepthwiseWeights packed =
      pack_depthwise(channels, stride, draw.weights.data(), draw.scales.data(), draw.biases.data());
  const std::int64_t rows = (height + stride - 1) / stride;
  const std::int64_t columns = (width + stride - 1) / stride;
  std::vector<std::uint8_t> y(static_cast<std::size_t>(images * rows * columns * channels));
  run_depthwise(packed, numbers, images, height, width, draw.x.data(), y.data());
  std::vector<double> expected;
  for (std::int64_t image = 0; image < images; ++image)
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j)
        for (std::int64_t c = 0; c < channels; ++c) {
          std::int64_t sum = 0;
          for (std::int64_t tap = 0; tap < 9; ++tap) {
            const std::int64_t row = i * stride + tap / 3 - 1;
            const std::int64_t column = j * stride + tap % 3 - 1;
            if (row < 0 || column < 0 || row >= height || column >= width) continue;
            const std::int64_t point = ((image * height + row) * width + column) * channels + c;
            sum += (draw.x[static_cast<std::size_t>(point)] - numbers.zero_x) *
                   draw.weights[static_cast<std::size_t>(c * 9 + tap)];
          }
          expected.push_back(draw.answer(c, sum, numbers));
        }
  check_close(y, expected);
}

TEST_CASE("answers far out of range saturate at either end", "[int8][kernels]") {
  if (skipped()) return;
  const std::vector<std::int8_t> weights = {127, 127, 127, 127, -127, -127, -127, -127};
  const std::vector<float> scales = {1e6F, 1e6F};
  const std::vector<float> biases = {0, 0};
  const PointwiseWeights packed = pack_pointwise(2, 4, weights.data(), scales.data(), biases.data());
  const std::vector<std::uint8_t> x = {255, 255, 255, 255};
  std::vector<std::uint8_t> y(2);
  run_pointwise(packed, {.scale_x = 1e6F, .scale_y = 1e-6F, .zero_y = 9}, 1, x.data(), y.data());
  CHECK(y == std::vector<std::uint8_t>{255, 0});
  run_pointwise(packed, {.scale_x = 1e6F, .scale_y = 1e-6F, .zero_y = 9, .has_relu = true}, 1, x.data(),
                y.data());
  CHECK(y == std::vector<std::uint8_t>{255, 9});
}

TEST_CASE("numbers are quantized with halves to even, and end at 0 and 255", "[int8][kernels]") {
  if (skipped()) return;
  const std::vector<float> x = {0, 0.25F, 0.75F, -0.25F, -0.75F, -100, 100, 1e30F, -1e30F, 1,
                                2, 3,     4,     5,      6,      7,    8,   9,     10};
  std::vector<std::uint8_t> y(x.size(), 77);
  quantize(x.data(), 19, 0.5F, 30, y.data());
  CHECK(y == std::vector<std::uint8_t>{30, 30, 32, 30, 28, 0, 230, 255, 0, 32, 34, 36, 38, 40, 42, 44, 46, 48,
                                       50});
}
