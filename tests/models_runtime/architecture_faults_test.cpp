#include <cmath>

#include "models/runtime/architectures.h"
#include "tests/catch.h"
#include "tests/models_runtime/small_architectures.h"

using namespace rivulet;

TEST_CASE("sizes that make no network are refused with the key at fault", "[runtime][architectures]") {
  struct Wrong {
    std::string kind;
    void (*change)(Architecture&);
    std::string words;
  };
  const auto wrong = GENERATE(values<Wrong>({
      {"mlp", [](Architecture& a) { a.kernel = 3; },
       "model.kernel does not belong to mlp; its keys are: hidden"},
      {"cnn", [](Architecture& a) { a.channels = {}; }, "model.channels must name"},
      {"cnn", [](Architecture& a) { a.channels = {4, 0}; }, "model.channels has an element of 0"},
      {"cnn", [](Architecture& a) { a.kernel = 4; }, "model.kernel is 4; it must be odd"},
      {"cnn", [](Architecture& a) { a.pool = -1; }, "model.pool is -1"},
      {"cnn", [](Architecture& a) { a.input_shape = {8, 8}; },
       "input.shape is [8, 8], but the input of cnn is [channels, height, width]"},
      // 4 x 9: heights 4, 2, 1, and a third pooling by 2 has nothing left.
      {"cnn",
       [](Architecture& a) {
         a.input_shape = {1, 4, 9};
         a.channels = {2, 2, 2};
       },
       "model.pool is 2, but only 1 of the input's 4 in dimension 1 are left behind conv3"},
      {"cnn1d",
       [](Architecture& a) {
         a.input_shape = {3, 11};
         a.pool = 4;
       },
       "model.pool is 4, but only 2 of the input's 11 in dimension 1 are left behind conv2"},
      {"cnn1d", [](Architecture& a) { a.input_shape = {33}; }, "the input of cnn1d is [channels, length]"},
      {"gru", [](Architecture& a) { a.hidden = {4, 4}; }, "model.hidden has 2 elements"},
      {"gru", [](Architecture& a) { a.hidden = {}; }, "model.hidden has 0 elements"},
      {"gru", [](Architecture& a) { a.pool = 2; }, "model.pool does not belong to gru"},
      {"autoencoder", [](Architecture& a) { a.hidden = {}; }, "model.hidden is empty"},
      {"autoencoder", [](Architecture& a) { a.outputs = 3; }, "rebuilds its 6 inputs, but has 3 outputs"},
      {"resnet18", [](Architecture& a) { a.width = 0.3; },
       "model.width is 0.3; it must be a multiple of 1/64"},
      {"resnet18", [](Architecture& a) { a.width = std::nan(""); }, "model.width is nan"},
      {"resnet18", [](Architecture& a) { a.groups = 3; }, "model.groups is 3; it must divide the 4 channels"},
      {"resnet18", [](Architecture& a) { a.input_shape = {32, 32}; }, "input.shape is [32, 32]"},
      {"resnet18", [](Architecture& a) { a.resolution = 64; },
       "model.resolution does not belong to resnet18; its keys are: width, groups"},
      {"mobilenet_v2", [](Architecture& a) { a.width = 0.05; },
       "model.width is 0.05; that of mobilenet_v2 lies in 0.1 to 4"},
      {"mobilenet_v2", [](Architecture& a) { a.width = 4.5; }, "model.width is 4.5"},
      {"mobilenet_v2", [](Architecture& a) { a.width = std::nan(""); }, "model.width is nan"},
      {"mobilenet_v2", [](Architecture& a) { a.resolution = 31; },
       "model.resolution is 31; it lies in 32 to 1024, or is 0"},
      {"mobilenet_v2", [](Architecture& a) { a.resolution = 2048; }, "model.resolution is 2048"},
      {"mobilenet_v2", [](Architecture& a) { a.resolution = -1; }, "model.resolution is -1"},
      {"mobilenet_v2", [](Architecture& a) { a.groups = 2; },
       "model.groups does not belong to mobilenet_v2; its keys are: width, resolution"},
      {"mobilenet_v2", [](Architecture& a) { a.input_shape = {216}; },
       "input.shape is [216], but the input of mobilenet_v2 is [channels, height, width]"},
  }));
  Architecture architecture = small_architecture(wrong.kind);
  wrong.change(architecture);
  const auto result = layout_of(architecture);
  CAPTURE(wrong.kind, wrong.words);
  REQUIRE_FALSE(result);
  CAPTURE(result.error().detail);
  CHECK(result.error().code == Errc::invalid);
  CHECK(result.error().detail.find(wrong.words) != std::string::npos);
}

TEST_CASE("networks beyond a billion parameters are refused before memory is taken",
          "[runtime][architectures]") {
  Architecture cnn = small_architecture("cnn");
  cnn.channels = {1 << 20, 1 << 20};
  CHECK(layout_of(cnn).error().code == Errc::too_large);
  Architecture gru = small_architecture("gru");
  gru.hidden = {1 << 20};
  CHECK(layout_of(gru).error().code == Errc::too_large);
  Architecture resnet = small_architecture("resnet18");
  resnet.width = 16;  // 11.17 million * 16^2
  CHECK(layout_of(resnet).error().code == Errc::too_large);
}
