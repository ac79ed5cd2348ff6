// The running statistics that a node measures on its own samples.
#include <algorithm>
#include <map>

#include "models/runtime/local_statistics.h"
#include "tests/models_runtime/python_networks.h"
#include "tests/models_runtime/reference_networks.h"

using namespace rivulet;
using namespace rivulet::tests;

namespace fs = std::filesystem;

TEST_CASE("a node's own statistics are those of its samples, and nothing else changes", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  // With dropout: it must not disturb them.
  Model model = Model::build(image_architecture, read_all(files / "residual.pt")).value();
  const std::vector<float> base = model.weights();
  const std::vector<float> inputs = reference::uniform(65 * 144, 5, 9, 5);
  const std::vector<float> own = with_local_statistics(model, base, inputs).value();
  CHECK(model.weights() == own);
  CHECK(with_local_statistics(model, base, inputs).value() == own);
  for (const auto [begin, end] : ranges_of(model.layout(), TensorKind::parameter))
    CHECK(std::equal(base.begin() + static_cast<std::ptrdiff_t>(begin),
                     base.begin() + static_cast<std::ptrdiff_t>(end),
                     own.begin() + static_cast<std::ptrdiff_t>(begin)));
  // Independently: the mean of what the stem gives is linear in the mean of its inputs, zeros at the border.
  std::size_t at = 0;
  std::vector<float> stem, bias, mean;
  for (const TensorSpec& tensor : model.layout().tensors) {
    const auto begin = own.begin() + static_cast<std::ptrdiff_t>(at);
    const auto end = begin + static_cast<std::ptrdiff_t>(tensor.size());
    if (tensor.name == "stem.weight") stem.assign(begin, end);
    if (tensor.name == "stem.bias") bias.assign(begin, end);
    if (tensor.name == "bn.running_mean") mean.assign(begin, end);
    at += tensor.size();
  }
  for (std::size_t channel = 0; channel < 6; ++channel) {
    double expected = bias[channel];
    for (int y = -1; y <= 1; ++y)
      for (int x = -1; x <= 1;
           ++x)  // Inputs are 7 in the mean; a shifted window sees 11 of 12 rows or columns.
        expected += static_cast<double>(stem[channel * 9 + static_cast<std::size_t>((y + 1) * 3 + x + 1)]) *
                    7.0 * (y == 0 ? 1.0 : 11.0 / 12) * (x == 0 ? 1.0 : 11.0 / 12);
    CHECK(mean[channel] == Approx(expected).margin(0.1));
  }
  CHECK(with_local_statistics(model, base, std::span(inputs).first(144)).value() ==
        base);  // One has no variance.
}

TEST_CASE("a node's own statistics are those of its samples, whatever the momentum of its norms",
          "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  // Of 64 batches the old statistics would keep 0.99^64 = 53 %, and at a momentum of None 3 of 67 parts.
  const std::string name = GENERATE("calm", "slow", "cumulative", "still");
  CAPTURE(name);
  Model model = Model::build(image_architecture, read_all(files / (name + ".pt"))).value();
  const std::vector<float> base = model.weights();
  const std::vector<float> inputs = reference::uniform(32 * 144, 5, 9, 5);
  const std::vector<float> own = with_local_statistics(model, base, inputs).value();
  CHECK(with_local_statistics(model, base, inputs).value() == own);
  if (name == "still") {
    CHECK(own == base);  // A momentum of 0 says that nothing moves them.
    return;
  }
  // One batch, over and over: mean and variance (with n - 1) of what the stem gives, by hand.
  std::size_t at = 0;
  std::map<std::string, std::vector<float>> tensors;
  for (const TensorSpec& tensor : model.layout().tensors) {
    const auto begin = own.begin() + static_cast<std::ptrdiff_t>(at);
    tensors[tensor.name].assign(begin, begin + static_cast<std::ptrdiff_t>(tensor.size()));
    at += tensor.size();
  }
  const auto& stem = tensors.at("stem.weight");
  for (std::size_t channel = 0; channel < 6; ++channel) {
    double sum = 0;
    double squares = 0;
    for (std::size_t n = 0; n < 32; ++n)
      for (int row = 0; row < 12; ++row)
        for (int column = 0; column < 12; ++column) {
          double value = tensors.at("stem.bias")[channel];
          for (int y = -1; y <= 1; ++y)
            for (int x = -1; x <= 1; ++x) {
              const int r = row + y, c = column + x;
              if (r < 0 || r > 11 || c < 0 || c > 11) continue;
              value +=
                  static_cast<double>(stem[channel * 9 + static_cast<std::size_t>((y + 1) * 3 + x + 1)]) *
                  inputs[n * 144 + static_cast<std::size_t>(r * 12 + c)];
            }
          sum += value;
          squares += value * value;
        }
    constexpr double count = 32 * 144;
    const double mean = sum / count;
    CHECK(tensors.at("bn.running_mean")[channel] == Approx(mean).epsilon(1e-3).margin(1e-4));
    CHECK(tensors.at("bn.running_var")[channel] ==
          Approx((squares - count * mean * mean) / (count - 1)).epsilon(2e-3));
  }
}

TEST_CASE("a network that fails while its statistics are measured answers as before", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  Model model = Model::build(image_architecture, read_all(files / "narrow.pt")).value();
  const std::vector<float> base = model.weights();
  const std::vector<float> inputs = reference::uniform(40 * 144, 5, 9, 5);
  const std::vector<float> answers = model.forward(inputs, 40).value();
  const auto measured = with_local_statistics(model, base, inputs);
  REQUIRE_FALSE(measured);
  CHECK(measured.error().code == Errc::internal);
  CHECK(model.forward(inputs, 40).value() == answers);
  CHECK(model.weights() == base);  // In training, answering would move the statistics.
}
