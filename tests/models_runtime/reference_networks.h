#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "protocol/rng.h"

// The networks again, in double and in the plainest form: what LibTorch computes is compared with them.
namespace rivulet::reference {

using Vector = std::vector<double>;

inline std::vector<float> uniform(std::size_t count, double low, double high, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(low + (high - low) * uniform_unit(rng));
  return values;
}

inline Vector widened(std::span<const float> values) { return {values.begin(), values.end()}; }

/// y = W x + b with the weights [outputs, inputs] and then the bias at `parameters`.
inline Vector dense(std::span<const double> parameters, const Vector& x, std::size_t outputs) {
  Vector y(outputs);
  for (std::size_t o = 0; o < outputs; ++o) {
    y[o] = parameters[outputs * x.size() + o];
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += parameters[o * x.size() + i] * x[i];
  }
  return y;
}

inline void relu(Vector& values) {
  for (double& value : values) value = std::max(value, 0.0);
}

/// Logits of a dense network with ReLU between the layers. @param widths of each layer's outputs.
inline Vector mlp(std::span<const double> parameters, Vector x, const std::vector<std::size_t>& widths) {
  for (std::size_t layer = 0; layer < widths.size(); ++layer) {
    const std::size_t size = widths[layer] * (x.size() + 1);
    x = dense(parameters, x, widths[layer]);
    parameters = parameters.subspan(size);
    if (layer + 1 < widths.size()) relu(x);
  }
  return x;
}

/// 5x5 convolution that keeps height and width, then ReLU, then 2x2 max-pooling.
inline Vector convolve_and_pool(std::span<const double> parameters, const Vector& image,
                                std::size_t channels_in, std::size_t channels_out, std::size_t side) {
  const auto n = static_cast<std::int64_t>(side);
  Vector pooled(channels_out * (side / 2) * (side / 2), 0.0);  // ReLU's floor: max-pooling starts from it.
  for (std::size_t out = 0; out < channels_out; ++out)
    for (std::int64_t row = 0; row < n; ++row)
      for (std::int64_t column = 0; column < n; ++column) {
        double sum = parameters[channels_out * channels_in * 25 + out];
        for (std::size_t in = 0; in < channels_in; ++in)
          for (std::int64_t i = std::max<std::int64_t>(0, 2 - row);
               i < std::min<std::int64_t>(5, n + 2 - row); ++i)
            for (std::int64_t j = std::max<std::int64_t>(0, 2 - column);
                 j < std::min<std::int64_t>(5, n + 2 - column); ++j)
              sum += parameters[((out * channels_in + in) * 5 + i) * 5 + j] *
                     image[(in * side + row + i - 2) * side + column + j - 2];
        double& cell = pooled[(out * (side / 2) + row / 2) * (side / 2) + column / 2];
        cell = std::max(cell, sum);
      }
  return pooled;
}

/// Logits of the CNN of McMahan et al. 2017 for one image [784].
inline Vector mcmahan_cnn(std::span<const double> parameters, const Vector& image, std::size_t outputs) {
  Vector x = convolve_and_pool(parameters, image, 1, 32, 28);
  parameters = parameters.subspan(32 * 25 + 32);
  x = convolve_and_pool(parameters, x, 32, 64, 14);
  parameters = parameters.subspan(64 * 32 * 25 + 64);
  return mlp(parameters, x, {512, outputs});
}

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Answers of a dense layer to the last state of a GRU (Cho et al. 2014, in PyTorch's form) over a window
/// [channels, length]. Parameters: W_ih [3 hidden, channels], W_hh [3 hidden, hidden], b_ih, b_hh [3 hidden],
/// each for reset, update and new; then the dense layer.
inline Vector gru(std::span<const double> parameters, const Vector& window, std::size_t channels,
                  std::size_t hidden, std::size_t outputs) {
  const std::size_t length = window.size() / channels;
  const auto w_ih = parameters.first(3 * hidden * channels);
  const auto w_hh = parameters.subspan(w_ih.size(), 3 * hidden * hidden);
  const auto b_ih = parameters.subspan(w_ih.size() + w_hh.size(), 3 * hidden);
  const auto b_hh = parameters.subspan(w_ih.size() + w_hh.size() + 3 * hidden, 3 * hidden);
  Vector state(hidden, 0.0);
  for (std::size_t t = 0; t < length; ++t) {
    const auto from_input = [&](std::size_t row) {
      double sum = b_ih[row];
      for (std::size_t c = 0; c < channels; ++c) sum += w_ih[row * channels + c] * window[c * length + t];
      return sum;
    };
    const auto from_state = [&](std::size_t row) {
      double sum = b_hh[row];
      for (std::size_t h = 0; h < hidden; ++h) sum += w_hh[row * hidden + h] * state[h];
      return sum;
    };
    Vector next(hidden);
    for (std::size_t h = 0; h < hidden; ++h) {
      const double reset = sigmoid(from_input(h) + from_state(h));
      const double update = sigmoid(from_input(hidden + h) + from_state(hidden + h));
      const double fresh = std::tanh(from_input(2 * hidden + h) + reset * from_state(2 * hidden + h));
      next[h] = (1 - update) * fresh + update * state[h];
    }
    state = next;
  }
  return dense(parameters.subspan(w_ih.size() + w_hh.size() + 6 * hidden), state, outputs);
}

inline double cross_entropy(const Vector& logits, std::int64_t label) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  return std::log(sum) - logits[static_cast<std::size_t>(label)];
}

}  // namespace rivulet::reference
