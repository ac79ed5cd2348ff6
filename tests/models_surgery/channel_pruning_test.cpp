#include "models/surgery/channel_pruning.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/runtime/architectures.h"
#include "models/runtime/model.h"
#include "models/runtime/runtime.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"
#include "tests/models_runtime/small_architectures.h"

using namespace rivulet;

namespace {

SizedNetwork network_with(const Architecture& architecture, std::uint64_t seed) {
  SizedNetwork network{architecture, layout_of(architecture).value(), {}};
  network.weights = reference::uniform(network.layout.size(), -1, 1, seed);
  return network;
}

Result<SizedNetwork> prune(const SizedNetwork& network, const ChannelPruning& pruning) {
  return prune_channels(network.architecture, network.layout, network.weights, pruning);
}

/// The numbers of a tensor within the flat weights.
std::span<float> tensor(SizedNetwork& network, std::size_t index) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < index; ++i) at += network.layout.tensors[i].size();
  return std::span(network.weights).subspan(at, network.layout.tensors[index].size());
}

/// Makes unit `unit` of a layer useless to what follows: what leads from it is 0. And weak: what leads to it
/// is tiny. Its answer is not 0, though: its bias stays.
void silence(SizedNetwork& network, std::size_t layer, std::size_t unit) {
  const auto outputs = static_cast<std::size_t>(network.layout.tensors[2 * layer].shape[0]);
  const std::span<float> into = tensor(network, 2 * layer);
  const std::size_t row = into.size() / outputs;
  for (float& w : into.subspan(unit * row, row)) w *= 1e-6F;
  tensor(network, 2 * layer + 1)[unit] = 0.5F;
  const TensorSpec& next = network.layout.tensors[2 * layer + 2];
  const std::span<float> from = tensor(network, 2 * layer + 2);
  const std::size_t next_row = from.size() / static_cast<std::size_t>(next.shape[0]);
  const std::size_t block = next_row / outputs;  // Inputs times kernel positions that the unit feeds.
  for (std::size_t i = 0; i < from.size(); ++i)
    if (i % next_row / block == unit) from[i] = 0;
}

std::vector<float> answers(const SizedNetwork& network, std::span<const float> inputs, std::size_t samples) {
  Model model = Model::build(network.architecture).value();
  REQUIRE(model.layout() == network.layout);
  REQUIRE(model.set_weights(network.weights).has_value());
  return model.forward(inputs, samples).value();
}

std::string detail_of(const Result<SizedNetwork>& result) {
  REQUIRE_FALSE(result.has_value());
  return result.error().detail;
}

}  // namespace

TEST_CASE("a fraction in decimal takes that part of the units", "[surgery]") {
  const SizedNetwork network = network_with({"mlp", {100}, {3}, 2}, 8);
  CHECK(prune(network, {.fraction = 0.29})->architecture.hidden == std::vector<std::int64_t>{71});
  CHECK(prune(network, {.fraction = 0.57})->architecture.hidden == std::vector<std::int64_t>{43});
}

TEST_CASE("of a small dense network the weakest unit goes, with what leads to it and from it", "[surgery]") {
  SizedNetwork network{{"mlp", {3}, {2}, 2}, {}, {}};
  network.layout = layout_of(network.architecture).value();
  // L1 norms of the hidden units: 3, 0.75, 0.5. Biases don't count, nor do signs.
  network.weights = {1, -2,   0.5F, 0.25F, -0.5F, 0,  // fc1.weight [3, 2]
                     0, 0.1F, 100,                    // fc1.bias
                     1, 2,    3,    4,     5,     6,  // fc2.weight [2, 3]
                     7, 8};                           // fc2.bias
  const SizedNetwork third = prune(network, {0.34}).value();
  CHECK(third.architecture == Architecture{"mlp", {2}, {2}, 2});
  CHECK(third.layout == layout_of(third.architecture).value());
  CHECK(third.weights == std::vector<float>{1, -2, 0.5F, 0.25F, 0, 0.1F, 1, 2, 4, 5, 7, 8});
  const SizedNetwork most = prune(network, {0.99}).value();
  CHECK(most.weights == std::vector<float>{1, -2, 0, 1, 4, 7, 8});
}

TEST_CASE("of equal units the later one goes, and one is always left", "[surgery]") {
  SizedNetwork network = network_with({"mlp", {4, 1}, {3}, 2}, 1);
  for (float& w : tensor(network, 0)) w = 0.25F;
  const SizedNetwork pruned = prune(network, {0.5}).value();
  CHECK(pruned.architecture.hidden == std::vector<std::int64_t>{2, 1});
  const auto bias = tensor(network, 1);
  SizedNetwork copy = pruned;
  CHECK(tensor(copy, 1)[0] == bias[0]);
  CHECK(tensor(copy, 1)[1] == bias[1]);
}

TEST_CASE("a flattened channel takes its whole block of inputs along", "[surgery]") {
  // Two channels of 2x2 after pooling by 1, into one output: eight inputs.
  SizedNetwork network{{.kind = "cnn",
                        .hidden = {},
                        .input_shape = {1, 2, 2},
                        .outputs = 1,
                        .channels = {2},
                        .kernel = 1,
                        .pool = 1},
                       {},
                       {}};
  network.layout = layout_of(network.architecture).value();
  network.weights = {0.5F, 2, 10, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const SizedNetwork pruned = prune(network, {0.5}).value();
  CHECK(pruned.weights == std::vector<float>{2, 20, 5, 6, 7, 8, 9});
  CHECK(pruned.layout.tensors[2].shape == std::vector<std::int64_t>{1, 4});
}

TEST_CASE("units that nothing listens to can go without a change in any answer", "[surgery]") {
  use_one_thread();
  const std::string kind = GENERATE("mlp", "cnn", "cnn1d", "autoencoder", "mcmahan_cnn");
  const std::uint64_t seed = GENERATE(range(1, 4));
  CAPTURE(kind, seed);
  Architecture architecture = small_architecture(kind);
  if (kind == "cnn1d") architecture.hidden = {6};
  SizedNetwork network = network_with(architecture, seed);
  const std::size_t layers = network.layout.tensors.size() / 2;
  const double fraction = 0.4;
  const std::size_t code = kind == "autoencoder" ? architecture.hidden.size() - 1 : layers;
  std::size_t removed = 0;
  for (std::size_t layer = 0; layer + 1 < layers; ++layer) {
    const auto outputs = static_cast<std::size_t>(network.layout.tensors[2 * layer].shape[0]);
    if (layer == code) continue;
    const auto gone = static_cast<std::size_t>(fraction * static_cast<double>(outputs));
    for (std::size_t i = 0; i < gone; ++i) silence(network, layer, (seed + i * 2) % outputs);
    removed += gone;
  }
  REQUIRE(removed >= 1);
  const SizedNetwork pruned = prune(network, {fraction}).value();
  CHECK(pruned.weights.size() < network.weights.size());
  CHECK(pruned.architecture.outputs == architecture.outputs);
  constexpr std::size_t samples = 5;
  const std::vector<float> inputs =
      reference::uniform(samples * architecture.input_size(), -1, 1, seed + 100);
  const std::vector<float> before = answers(network, inputs, samples);
  const std::vector<float> after = answers(pruned, inputs, samples);
  REQUIRE(before.size() == after.size());
  float greatest = 0;
  for (const float value : before) greatest = std::max(greatest, std::abs(value));
  for (std::size_t i = 0; i < before.size(); ++i)  // The sums run in another order.
    CHECK(after[i] == Approx(before[i]).margin(2e-6 * static_cast<double>(greatest)));
}

TEST_CASE("sizes follow from the fraction, layer by layer", "[surgery]") {
  struct Case {
    Architecture from;
    double fraction;
    std::size_t parameters;
  };
  // 784-200-200-10 to 784-100-100-10; the CNN of McMahan et al. to 16 and 32 channels and 256 units.
  const auto [from, fraction, parameters] = GENERATE(values<Case>({
      {{"mlp", {200, 200}, {784}, 10}, 0.5, 784 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10},
      {{"mcmahan_cnn", {}, {784}, 10}, 0.5, 16 * 26 + 32 * (16 * 25 + 1) + 256 * (32 * 49 + 1) + 10 * 257},
      {{.kind = "cnn1d",
        .hidden = {},
        .input_shape = {6, 128},
        .outputs = 6,
        .channels = {64, 64},
        .kernel = 5,
        .pool = 2},
       0.25,
       48 * 31 + 48 * (48 * 5 + 1) + 6 * 49},
      {{"autoencoder", {32, 8}, {64}, 64}, 0.5, 16 * 65 + 8 * 17 + 16 * 9 + 64 * 17},
      {{"mlp", {3}, {4}, 2}, 0.999999, 5 + 4},
  }));
  CAPTURE(from.kind);
  const SizedNetwork pruned = prune(network_with(from, 2), {fraction}).value();
  CHECK(pruned.weights.size() == parameters);
  CHECK(pruned.layout == layout_of(pruned.architecture).value());
}

TEST_CASE("an autoencoder's code is pruned only where that is asked for", "[surgery]") {
  const SizedNetwork network = network_with({"autoencoder", {32, 8}, {64}, 64}, 3);
  CHECK(prune(network, {0.5, false})->architecture.hidden == std::vector<std::int64_t>{16, 8});
  CHECK(prune(network, {0.5, true})->architecture.hidden == std::vector<std::int64_t>{16, 4});
  const SizedNetwork code_alone = network_with({"autoencoder", {8}, {64}, 64}, 3);
  CHECK(detail_of(prune(code_alone, {0.5, false})).find("no unit") != std::string::npos);
  CHECK(prune(code_alone, {0.5, true})->architecture.hidden == std::vector<std::int64_t>{4});
}

TEST_CASE("a network of no sequence of layers is sent to distillation", "[surgery]") {
  for (const char* kind : {"gru", "resnet18"}) {
    const auto refused = prune(network_with(small_architecture(kind), 1), {0.5});
    CHECK(detail_of(refused).find("rivulet model distill") != std::string::npos);
    CHECK(refused.error().code == Errc::unsupported);
  }
  Architecture user;
  user.kind = user_architecture;
  CHECK(detail_of(prune_channels(user, {}, {}, {})).find("user's network") != std::string::npos);
}

TEST_CASE("a fraction takes some units and never all", "[surgery]") {
  const SizedNetwork network = network_with({"mlp", {5, 4}, {6}, 3}, 1);
  for (const double fraction : {0.0, 1.0, -0.5, std::numeric_limits<double>::quiet_NaN()})
    CHECK(detail_of(prune(network, {fraction})).find("above 0 and below 1") != std::string::npos);
  CHECK(detail_of(prune(network, {0.1})).find("no unit") != std::string::npos);
  CHECK(prune(network, {0.2})->architecture.hidden == std::vector<std::int64_t>{4, 4});
}
