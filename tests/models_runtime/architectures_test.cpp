#include "models/runtime/architectures.h"

#include <cmath>

#include "models/runtime/architectures/families.h"
#include "models/runtime/inference.h"
#include "models/runtime/local_statistics.h"
#include "models/runtime/model.h"
#include "models/runtime/runtime.h"
#include "models/runtime/training.h"
#include "protocol/sha256.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"
#include "tests/models_runtime/small_architectures.h"

using namespace rivulet;
using reference::Vector;

namespace {

std::vector<std::string> names_of(const ParameterLayout& layout) {
  std::vector<std::string> names;
  for (const TensorSpec& tensor : layout.tensors) names.push_back(tensor.name);
  return names;
}

TensorSpec tensor_of(const ParameterLayout& layout, const std::string& name) {
  for (const TensorSpec& tensor : layout.tensors)
    if (tensor.name == name) return tensor;
  FAIL("there is no tensor " << name);
  return {};
}

/// The entries of one sort; statistics are no parameters.
std::size_t count_of(const ParameterLayout& layout, TensorKind kind) {
  std::size_t count = 0;
  for (const auto [begin, end] : ranges_of(layout, kind)) count += end - begin;
  return count;
}

std::string digest_of(const Architecture& architecture, std::uint64_t seed) {
  const std::vector<float> weights = initial_weights(layout_of(architecture).value(), seed);
  return sha256(std::as_bytes(std::span(weights))).hex();
}

}  // namespace

TEST_CASE("each kind has the number of parameters that papers and hand arithmetic give",
          "[runtime][architectures]") {
  struct Case {
    Architecture architecture;
    std::size_t parameters;
  };
  Architecture resnet = default_architecture("resnet18");
  resnet.input_shape = {3, 32, 32};
  resnet.outputs = 10;
  Architecture resnet100 = resnet;
  resnet100.outputs = 100;
  Architecture narrow = resnet;
  narrow.width = 0.125;
  const auto mobilenet = [](double width, std::int64_t outputs) {
    return Architecture{
        .kind = "mobilenet_v2", .input_shape = {3, 64, 64}, .outputs = outputs, .width = width};
  };
  const auto test = GENERATE_COPY(values<Case>({
      // McMahan et al. 2017, section 3.
      {{.kind = "mlp", .hidden = {200, 200}, .input_shape = {784}, .outputs = 10}, 199'210},
      {{.kind = "mcmahan_cnn", .input_shape = {784}, .outputs = 10}, 1'663'370},
      // The same network by the general kind.
      {{.kind = "cnn",
        .hidden = {512},
        .input_shape = {1, 28, 28},
        .outputs = 10,
        .channels = {32, 64},
        .kernel = 5,
        .pool = 2},
       1'663'370},
      // 32*(9+1) + 64*(32*9+1) + 128*(64*2*2+1) + 10*129
      {{.kind = "cnn",
        .hidden = {128},
        .input_shape = {1, 8, 8},
        .outputs = 10,
        .channels = {32, 64},
        .kernel = 3,
        .pool = 2},
       53'002},
      // 64*(6*5+1) + 64*(64*5+1) + 6*65, whatever the length.
      {{.kind = "cnn1d", .input_shape = {6, 128}, .outputs = 6, .channels = {64, 64}, .kernel = 5, .pool = 2},
       22'918},
      {{.kind = "cnn1d", .input_shape = {6, 99}, .outputs = 6, .channels = {64, 64}, .kernel = 5, .pool = 1},
       22'918},
      // 3*64*6 + 3*64*64 + 2*3*64 + 6*65
      {{.kind = "gru", .hidden = {64}, .input_shape = {6, 128}, .outputs = 6}, 14'214},
      // 32*65 + 8*33 + 32*9 + 64*33
      {{.kind = "autoencoder", .hidden = {32, 8}, .input_shape = {64}, .outputs = 64}, 4'744},
      // He et al. 2016 in CIFAR form: 11.17 million; 90 more classes are 90 * 513 parameters.
      {resnet, 11'173'962},
      {resnet100, 11'173'962 + 90 * 513},
      // The sum over the layers by hand with 8, 16, 32 and 64 channels.
      {narrow, 176'402},
      // As published with the pretrained weights of torchvision: mobilenet_v2(), and width_mult=0.5.
      {mobilenet(1, 1000), 3'504'872},
      {mobilenet(0.5, 1000), 1'968'680},
      // 990 classes fewer are 990 * 1281 parameters fewer.
      {mobilenet(0.5, 10), 1'968'680 - 990 * 1281},
  }));
  CAPTURE(test.architecture.kind);
  CHECK(count_of(layout_of(test.architecture).value(), TensorKind::parameter) == test.parameters);
}

TEST_CASE("MobileNetV2 rounds its channels as its authors do", "[runtime][architectures]") {
  CHECK(mobilenet_channels(32) == 32);
  CHECK(mobilenet_channels(3.2) == 8);    // Never fewer than 8.
  CHECK(mobilenet_channels(12) == 16);    // Halfway: up.
  CHECK(mobilenet_channels(11.2) == 16);  // To 8 would be 71 % of it.
  CHECK(mobilenet_channels(8.8) == 8);    // 91 %
  CHECK(mobilenet_channels(8.9) == 16);   // 8 are 89.9 %
  CHECK(mobilenet_channels(22.4) == 24);
  CHECK(mobilenet_channels(1280 * 1.4) == 1792);

  // 0.75: 24, 12, 18, 24, 48, 72, 120, 240 as the paper has them; 12 and 18 become 16 and 24.
  Architecture architecture = small_architecture("mobilenet_v2");
  architecture.width = 0.75;
  const ParameterLayout layout = layout_of(architecture).value();
  const auto channels = [&](const std::string& name) { return tensor_of(layout, name + ".weight").shape[0]; };
  CHECK(channels("conv") == 24);
  CHECK(channels("block1_project") == 16);
  CHECK(channels("block2_project") == 24);
  CHECK(channels("block5_project") == 24);
  CHECK(channels("block7_project") == 48);
  CHECK(channels("block12_project") == 72);
  CHECK(channels("block16_project") == 120);
  CHECK(channels("block17_project") == 240);
  CHECK(channels("last") == 1280);
}

TEST_CASE("layers have the names and shapes that releases rest on", "[runtime][architectures]") {
  const ParameterLayout cnn1d = layout_of(small_architecture("cnn1d")).value();
  CHECK(names_of(cnn1d) == std::vector<std::string>{"conv1.weight", "conv1.bias", "conv2.weight",
                                                    "conv2.bias", "fc1.weight", "fc1.bias"});
  CHECK(tensor_of(cnn1d, "conv2.weight").shape == std::vector<std::int64_t>{5, 4, 3});

  const ParameterLayout gru = layout_of(small_architecture("gru")).value();
  CHECK(names_of(gru) == std::vector<std::string>{"gru.weight_ih_l0", "gru.weight_hh_l0", "gru.bias_ih_l0",
                                                  "gru.bias_hh_l0", "fc.weight", "fc.bias"});
  CHECK(tensor_of(gru, "gru.weight_ih_l0").shape == std::vector<std::int64_t>{12, 3});
  CHECK(tensor_of(gru, "gru.weight_hh_l0").shape == std::vector<std::int64_t>{12, 4});

  const ParameterLayout autoencoder = layout_of(small_architecture("autoencoder")).value();
  CHECK(names_of(autoencoder) ==
        std::vector<std::string>{"encoder1.weight", "encoder1.bias", "encoder2.weight", "encoder2.bias",
                                 "decoder1.weight", "decoder1.bias", "decoder2.weight", "decoder2.bias"});

  const ParameterLayout resnet = layout_of(small_architecture("resnet18")).value();
  // 17 convolutions of 3x3 in the main line (He et al. 2016: with the dense layer 18) and 3 projections,
  // each with a norm of two tensors; then the dense layer.
  CHECK(resnet.tensors.size() == 3 * (17 + 3) + 2);
  CHECK(resnet.tensors[0] == TensorSpec{"conv.weight", {4, 3, 3, 3}, TensorKind::parameter});
  CHECK(tensor_of(resnet, "stage2_block1_project.weight").shape == std::vector<std::int64_t>{8, 4, 1, 1});
  CHECK(tensor_of(resnet, "stage4_block2_conv2.weight").shape == std::vector<std::int64_t>{32, 32, 3, 3});
  CHECK(tensor_of(resnet, "fc.weight").shape == std::vector<std::int64_t>{3, 32});

  const ParameterLayout mobilenet = layout_of(small_architecture("mobilenet_v2")).value();
  // 17 blocks of 3 convolutions, of which the first has 2, and one convolution before and behind them; each
  // with a norm of four tensors; then the dense layer.
  CHECK(mobilenet.tensors.size() == 5 * (17 * 3 - 1 + 2) + 2);
  CHECK(mobilenet.tensors[0] == TensorSpec{"conv.weight", {8, 3, 3, 3}, TensorKind::parameter});
  CHECK(mobilenet.tensors[3] == TensorSpec{"conv_norm.running_mean", {8}, TensorKind::statistic});
  CHECK(mobilenet.tensors[4] == TensorSpec{"conv_norm.running_var", {8}, TensorKind::statistic});
  CHECK(tensor_of(mobilenet, "block2_expand.weight").shape == std::vector<std::int64_t>{48, 8, 1, 1});
  CHECK(tensor_of(mobilenet, "block2_depthwise.weight").shape == std::vector<std::int64_t>{48, 1, 3, 3});
  CHECK(tensor_of(mobilenet, "block2_project.weight").shape == std::vector<std::int64_t>{8, 48, 1, 1});
  // Per norm a mean and a variance; of these 52 hang on the outputs of the convolutions.
  CHECK(count_of(mobilenet, TensorKind::statistic) == 2 * 3'616);
  CHECK(variance_ranges(mobilenet).size() == 52);
}

TEST_CASE("the CNN of McMahan et al. is one of the general kind", "[runtime][architectures]") {
  const Architecture fixed{.kind = "mcmahan_cnn", .input_shape = {784}, .outputs = 10};
  const Architecture general{.kind = "cnn",
                             .hidden = {512},
                             .input_shape = {1, 28, 28},
                             .outputs = 10,
                             .channels = {32, 64},
                             .kernel = 5,
                             .pool = 2};
  Model one = Model::build(fixed).value();
  Model other = Model::build(general).value();
  REQUIRE(one.layout() == other.layout());
  const std::vector<float> weights = one.initial_weights(2);
  REQUIRE(one.set_weights(weights));
  REQUIRE(other.set_weights(weights));
  const std::vector<float> image = reference::uniform(784, 0, 1, 3);
  CHECK(one.forward(image, 1).value() == other.forward(image, 1).value());
}

TEST_CASE("weights start as they always did for a network and a seed", "[runtime][architectures]") {
  // SHA-256 of the float32 values as the first releases had them.
  CHECK(digest_of({.kind = "mlp", .hidden = {5, 3}, .input_shape = {4}, .outputs = 2}, 7) ==
        "5e09fd32abdf56ec6e871ad097e7cbcc3b76ca3fde6344dd98703cdf3a428c19");
  CHECK(digest_of({.kind = "mcmahan_cnn", .input_shape = {784}, .outputs = 10}, 7) ==
        "2b8ee7afce3c322e0193f6f2a070ab4589e588f8f661ae534ee8f4e5e6e4b766");
}

TEST_CASE("norms start as the identity and every other tensor within its bound", "[runtime][architectures]") {
  const std::string kind = GENERATE_COPY(from_range(architecture_kinds()));
  const ParameterLayout layout = layout_of(small_architecture(kind)).value();
  const std::vector<float> weights = initial_weights(layout, 5);
  REQUIRE(weights.size() == layout.size());
  double fan_in = 0;
  std::size_t at = 0;
  for (const TensorSpec& tensor : layout.tensors) {
    CAPTURE(kind, tensor.name);
    const auto values = std::span<const float>(weights).subspan(at, tensor.size());
    at += values.size();
    const auto [least, greatest] = std::ranges::minmax(values);
    const bool is_norm = tensor.name.find("norm") != std::string::npos;
    if (is_norm) {
      const bool is_one = tensor.name.ends_with("weight") || tensor.name.ends_with("running_var");
      const float expected = is_one ? 1.0F : 0.0F;
      CHECK(least == expected);
      CHECK(greatest == expected);
      continue;
    }
    if (tensor.shape.size() > 1) {
      fan_in = 1;
      for (std::size_t i = 1; i < tensor.shape.size(); ++i) fan_in *= static_cast<double>(tensor.shape[i]);
    }
    if (tensor.name.starts_with("gru.")) fan_in = 4;  // The size of the state, for all four.
    const double bound = 1 / std::sqrt(fan_in);
    CHECK(least >= -bound);
    CHECK(greatest <= bound);
    if (values.size() > 20) {
      CHECK(least < -bound / 2);  // 20 draws all on one side of it: (3/4)^20, and the seed is fixed.
      CHECK(greatest > bound / 2);
    }
  }
}

TEST_CASE("statistics of a batch norm start with mean 0 and variance 1", "[runtime][architectures]") {
  const ParameterLayout layout{{{"conv.weight", {2, 1, 1, 1}, TensorKind::parameter},
                                {"norm.weight", {2}, TensorKind::parameter},
                                {"norm.bias", {2}, TensorKind::parameter},
                                {"norm.running_mean", {2}, TensorKind::statistic},
                                {"norm.running_var", {2}, TensorKind::statistic}}};
  const std::vector<float> weights = initial_weights(layout, 1);
  CHECK(std::vector<float>(weights.begin() + 2, weights.end()) == std::vector<float>{1, 1, 0, 0, 0, 0, 1, 1});
}

TEST_CASE("a 1-D convolution slides over time, pools and averages as by hand", "[runtime][architectures]") {
  // One channel, length 5, kernel [1, 2, 3], no bias; pooled by 2, so that the last step is dropped.
  Model model =
      Model::build(
          {.kind = "cnn1d", .input_shape = {1, 5}, .outputs = 1, .channels = {1}, .kernel = 3, .pool = 2})
          .value();
  REQUIRE(model.set_weights(std::vector<float>{1, 2, 3, 0, 10, 1}));
  // x = 1 -2 3 0 4, y_t = x_{t-1} + 2 x_t + 3 x_{t+1}: -4, 6, 4, 15, 8; ReLU 0 6 4 15 8; pairs 6, 15;
  // mean 10.5; 10 * 10.5 + 1.
  CHECK(model.forward(std::vector<float>{1, -2, 3, 0, 4}, 1).value() == std::vector<float>{106});
}

TEST_CASE("a GRU computes the equations of Cho et al. step by step", "[runtime][architectures]") {
  const Architecture architecture = small_architecture("gru");
  Model model = Model::build(architecture).value();
  const std::vector<float> weights = reference::uniform(model.size(), -1, 1, 1);
  REQUIRE(model.set_weights(weights));
  constexpr std::size_t batch = 3;
  const std::vector<float> inputs = reference::uniform(batch * 3 * 7, -1, 1, 2);
  const std::vector<float> answers = model.forward(inputs, batch).value();
  for (std::size_t i = 0; i < batch; ++i) {
    const Vector window = reference::widened(std::span(inputs).subspan(i * 21, 21));
    const Vector expected = reference::gru(reference::widened(weights), window, 3, 4, 3);
    for (std::size_t j = 0; j < 3; ++j) CHECK(answers[i * 3 + j] == Approx(expected[j]).margin(1e-5));
  }
}

TEST_CASE("an autoencoder's code is linear, and ReLU stands between the other layers",
          "[runtime][architectures]") {
  Model model =
      Model::build({.kind = "autoencoder", .hidden = {1}, .input_shape = {2}, .outputs = 2}).value();
  // code = a - b - 5, rebuilt as (code, 2 * code): negative values pass.
  REQUIRE(model.set_weights(std::vector<float>{1, -1, -5, 1, 2, 0, 0}));
  CHECK(model.forward(std::vector<float>{1, 2}, 1).value() == std::vector<float>{-6, -12});
  Model deep = Model::build(small_architecture("autoencoder")).value();
  const std::vector<float> weights = reference::uniform(deep.size(), -1, 1, 1);
  REQUIRE(deep.set_weights(weights));
  const std::vector<float> inputs = reference::uniform(6, -1, 1, 2);
  const std::vector<float> rebuilt = deep.forward(inputs, 1).value();
  // 6 -> 4 -> 2 -> 4 -> 6, each with its bias behind its weights.
  const Vector all = reference::widened(weights);
  const std::span<const double> parameters(all);
  Vector x = reference::dense(parameters, reference::widened(inputs), 4);
  reference::relu(x);
  x = reference::dense(parameters.subspan(28), x, 2);
  x = reference::dense(parameters.subspan(28 + 10), x, 4);
  reference::relu(x);
  x = reference::dense(parameters.subspan(28 + 10 + 12), x, 6);
  for (std::size_t j = 0; j < 6; ++j) CHECK(rebuilt[j] == Approx(x[j]).margin(1e-5));
}

TEST_CASE("ResNet-18 halves an image three times, and answers for every size", "[runtime][architectures]") {
  Architecture architecture = small_architecture("resnet18");
  const auto side = GENERATE(1, 2, 7, 8, 33);
  CAPTURE(side);
  architecture.input_shape = {3, side, side + 1};
  Model model = Model::build(architecture).value();
  REQUIRE(model.set_weights(model.initial_weights(1)));
  const std::vector<float> inputs = reference::uniform(2 * architecture.input_size(), -1, 1, 2);
  const std::vector<float> answers = model.forward(inputs, 2).value();
  CHECK(answers.size() == 6);
  for (const float answer : answers) CHECK(std::isfinite(answer));
  // Group norm: a sample's answer does not depend on the others in its batch.
  const std::vector<float> alone =
      model.forward(std::span(inputs).first(architecture.input_size()), 1).value();
  for (std::size_t j = 0; j < 3; ++j) CHECK(alone[j] == Approx(answers[j]).margin(1e-5));
}

TEST_CASE("MobileNetV2 halves an image five times, and answers for every size", "[runtime][architectures]") {
  Architecture architecture = small_architecture("mobilenet_v2");
  const auto resolution = GENERATE(0, 33, 64);
  const auto side = GENERATE(1, 9, 40);
  CAPTURE(side, resolution);
  architecture.input_shape = {3, side, side + 1};
  architecture.resolution = resolution;
  Model model = Model::build(architecture).value();
  const std::vector<float> inputs = reference::uniform(2 * architecture.input_size(), -1, 1, 2);
  REQUIRE(with_local_statistics(model, model.initial_weights(1), inputs));
  const std::vector<float> answers = model.forward(inputs, 2).value();
  CHECK(answers.size() == 6);
  for (const float answer : answers) CHECK(std::isfinite(answer));
  // Once trained, a sample's answer does not depend on the others in its batch.
  const std::vector<float> alone =
      model.forward(std::span(inputs).first(architecture.input_size()), 1).value();
  for (std::size_t j = 0; j < 3; ++j) CHECK(alone[j] == Approx(answers[j]).epsilon(1e-3).margin(1e-4));
}

TEST_CASE("training moves the statistics of batch norm by a tenth, and no optimizer touches them",
          "[runtime][architectures]") {
  use_one_thread();
  const Architecture architecture = small_architecture("mobilenet_v2");
  Model model = Model::build(architecture).value();
  const std::vector<float> base = model.initial_weights(1);
  constexpr std::size_t samples = 6;
  const std::vector<float> inputs = reference::uniform(samples * architecture.input_size(), -1, 1, 2);
  const std::vector<std::int64_t> labels = {0, 1, 2, 0, 1, 2};
  const auto deltas = [&](double rate) {
    return train(model, base, {.inputs = inputs, .labels = labels},
                 {.epochs = 1,
                  .batch_size = samples,
                  .learning_rate = rate,
                  .momentum = 0.9,
                  .weight_decay = 0.1})
        .value()
        .delta;
  };
  const std::vector<float> slow = deltas(1e-6);
  const std::vector<float> fast = deltas(0.1);
  for (const auto [begin, end] : ranges_of(model.layout(), TensorKind::statistic))
    for (std::size_t i = begin; i < end; ++i) REQUIRE(slow[i] == fast[i]);
  // From 1 a variance v goes to 0.9 + v / 10: it falls by a tenth at most, and so stays positive.
  std::size_t fell = 0;
  for (const auto [begin, end] : variance_ranges(model.layout()))
    for (std::size_t i = begin; i < end; ++i) {
      REQUIRE(slow[i] >= -0.1F - 1e-6F);
      if (slow[i] < 0) ++fell;
    }
  CHECK(fell > 1000);
}

TEST_CASE("each kind is served as it was trained, and keeps its weights in one flat vector",
          "[runtime][architectures]") {
  const std::string kind = GENERATE_COPY(from_range(architecture_kinds()));
  CAPTURE(kind);
  use_one_thread();
  const Architecture architecture = small_architecture(kind);
  Model model = Model::build(architecture).value();
  constexpr std::size_t samples = 5;
  const std::vector<float> inputs = reference::uniform(samples * architecture.input_size(), -1, 1, 2);
  // With statistics of the inputs, where a network has such: without, deep ones answer nearly nothing.
  const std::vector<float> weights = with_local_statistics(model, model.initial_weights(1), inputs).value();
  REQUIRE(model.set_weights(weights));
  CHECK(model.weights() == weights);
  const auto outputs = static_cast<std::size_t>(architecture.outputs);
  const std::vector<float> answers = model.forward(inputs, samples).value();
  REQUIRE(answers.size() == samples * outputs);
  CHECK(model.clone().value().forward(inputs, samples).value() == answers);
  const InferenceModel served =
      InferenceModel::load({architecture, model.layout(), TaskKind::regression, {}, {}}, weights).value();
  const auto predictions = served.infer_batch(inputs).value();
  for (std::size_t i = 0; i < samples; ++i) {
    const auto one = served.infer(std::span(inputs).subspan(i * served.input_size(), served.input_size()));
    REQUIRE(one);
    for (std::size_t j = 0; j < outputs; ++j) {
      // Engines fold norms into weights, which rounds: fifty times in one of these.
      CHECK(predictions[i].value[j] == Approx(answers[i * outputs + j]).epsilon(1e-4).margin(1e-5));
      CHECK(one->value[j] == Approx(answers[i * outputs + j]).epsilon(1e-4).margin(1e-5));
    }
  }
}

TEST_CASE("a few steps of training lower the loss of each kind, the same way twice",
          "[runtime][architectures]") {
  const std::string kind = GENERATE_COPY(from_range(architecture_kinds()));
  CAPTURE(kind);
  use_one_thread();
  const Architecture architecture = small_architecture(kind);
  Model model = Model::build(architecture).value();
  const std::vector<float> base = model.initial_weights(1);
  constexpr std::size_t samples = 12;
  const std::vector<float> inputs = reference::uniform(samples * architecture.input_size(), -1, 1, 2);
  std::vector<std::int64_t> labels;
  for (std::size_t i = 0; i < samples; ++i)
    labels.push_back(static_cast<std::int64_t>(i) % architecture.outputs);
  TrainingData data{.inputs = inputs, .labels = labels};
  if (kind == "autoencoder")
    data = {.inputs = inputs, .labels = {}, .targets = {}, .task = TaskKind::anomaly};
  const TrainingParameters parameters{.epochs = 25,
                                      .batch_size = samples,
                                      .learning_rate = kind == "mcmahan_cnn" ? 0.001 : 0.02,
                                      .optimizer = OptimizerKind::adam};
  const TrainingOutcome outcome = train(model, base, data, parameters).value();
  CHECK(outcome.end == TrainingEnd::finished);
  CHECK(outcome.loss_last < 0.95 * outcome.loss_first);
  CHECK(outcome.delta == train(model, base, data, parameters).value().delta);
}
