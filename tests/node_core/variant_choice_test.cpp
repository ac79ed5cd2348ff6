#include "node/core/variant_choice.h"

#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::node;

namespace {

constexpr WeightBytes weights{4000, 1100};

/// Takes 4000 bytes, and 500 for a sample.
VariantInfo fp32(std::optional<double> accuracy = 0.95, double microseconds = 100) {
  VariantInfo variant{"fp32", {}, 4000, {}, 0, accuracy, std::nullopt, 500, microseconds, false};
  return variant;
}

/// Takes 2200 bytes in int8, and 200 for a sample; in float as many as fp32.
VariantInfo int8(std::optional<double> accuracy = 0.945, double microseconds = 40) {
  return {"int8", {}, 1100, {}, 0, accuracy, Int8Kernels{{{{0, 1}}, {}}, {}, 0}, 200, microseconds, false};
}

/// Whose ranges each node finds itself.
VariantInfo own_int8(double accuracy, double microseconds) {
  VariantInfo variant = int8(accuracy, microseconds);
  variant.int8_kernels.reset();
  variant.own_ranges = true;
  return variant;
}

std::string chosen(const std::vector<VariantInfo>& variants, const DeviceLimits& device) {
  const auto best = best_variant(variants, weights, device);
  return best ? variants[*best].name : "none";
}

}  // namespace

TEST_CASE("the best variant that fits the device is chosen", "[node][variants]") {
  struct Row {
    const char* what;
    std::vector<VariantInfo> variants;
    DeviceLimits device;
    std::string expected;
  };
  const std::vector<Row> rows = {
      {"as accurate as the best within a point: the smaller", {fp32(), int8()}, {}, "int8"},
      {"whatever their order", {int8(), fp32()}, {}, "int8"},
      {"more than a point worse", {fp32(), int8(0.939)}, {}, "fp32"},
      {"an accuracy that is not known is good enough", {fp32(), int8(std::nullopt)}, {}, "int8"},
      {"no memory for the more accurate", {fp32(), int8(0.8)}, {.memory_max = 4499}, "int8"},
      {"just enough memory for it", {fp32(), int8(0.8)}, {.memory_max = 4500}, "fp32"},
      {"just enough memory for int8", {fp32(), int8()}, {.memory_max = 2400}, "int8"},
      {"memory for none", {fp32(), int8()}, {.memory_max = 2399}, "none"},
      {"without an int8 engine int8 takes as much as fp32",
       {fp32(), int8()},
       {.memory_max = 4199, .has_int8 = false},
       "none"},
      {"and is still the smaller file", {fp32(), int8()}, {.has_int8 = false}, "int8"},
      {"the more accurate is too slow", {fp32(), int8(0.8)}, {.latency_max_us = 99}, "int8"},
      {"it is just fast enough", {fp32(), int8(0.8)}, {.latency_max_us = 100}, "fp32"},
      {"a device of half the speed", {fp32(), int8(0.8)}, {.latency_max_us = 199, .speed = 0.5}, "int8"},
      {"a device of twice the speed", {fp32(), int8(0.8)}, {.latency_max_us = 50, .speed = 2}, "fp32"},
      {"none is fast enough: the fastest", {fp32(), int8(0.8)}, {.latency_max_us = 10}, "int8"},
      {"a time that is not known is fast enough", {fp32(0.95, 0), int8(0.8)}, {.latency_max_us = 10}, "fp32"},
      {"a time in int8 says nothing where it runs in float",
       {fp32(0.8), int8(0.95, 200)},
       {.latency_max_us = 100, .has_int8 = false},
       "int8"},
      {"nor one with ranges of its own",
       {fp32(0.8), own_int8(0.95, 200)},
       {.latency_max_us = 100, .has_int8 = false},
       "int8"},
      {"nothing to choose from", {}, {}, "none"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(chosen(row.variants, row.device) == row.expected);
  }
}

TEST_CASE("a variant's memory is that of the form in which it serves", "[node][variants]") {
  CHECK(memory_of(fp32(), weights, true) == 4500);
  CHECK(memory_of(int8(), weights, true) == 2 * 1100 + 200);
  CHECK(memory_of(int8(), weights, false) == 4200);
  VariantInfo sparse = int8();
  sparse.bytes = 500;  // Of a pruned version: in memory it is as large as any.
  CHECK(memory_of(sparse, weights, true) == 2 * 1100 + 200);
  VariantInfo weights_only = int8();
  weights_only.int8_kernels.reset();
  CHECK(memory_of(weights_only, weights, true) == 4200);
}
