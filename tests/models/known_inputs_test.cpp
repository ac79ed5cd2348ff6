#include "models/package/known_inputs.h"

#include "models/package/version.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

Release release_of(std::int64_t outputs, std::vector<std::string> recipes,
                   TaskKind task = TaskKind::classification) {
  Release release;
  release.architecture = {.kind = "mlp", .hidden = {}, .input_shape = {2}, .outputs = outputs};
  release.task = task;
  release.recipes = std::move(recipes);
  return release;
}

}  // namespace

TEST_CASE("wide answers leave room for fewer known inputs", "[models][package]") {
  // 88 KiB are 90,112 bytes for answers: with fp32, int8 and its kernels three times 4 bytes an output.
  CHECK(known_inputs_max(release_of(10, {"fp32", "int8"})) == 750);
  CHECK(known_inputs_max(release_of(1877, {"fp32", "int8"})) == 4);
  CHECK(known_inputs_max(release_of(1878, {"fp32", "int8"})) == 3);
  CHECK(known_inputs_max(release_of(7509, {"fp32", "int8"})) == 1);
  CHECK(known_inputs_max(release_of(7510, {"fp32", "int8"})) == 0);
  CHECK(known_inputs_max(release_of(7510, {"int8"})) == 1);
  CHECK(known_inputs_max(release_of(22'528, {"fp32"})) == 1);
  CHECK(known_inputs_max(release_of(22'529, {"fp32"})) == 0);
  // Whatever an anomaly model rebuilds, it answers one error.
  CHECK(known_inputs_max(release_of(150'528, {"fp32", "int8"}, TaskKind::anomaly)) == 7509);
}

TEST_CASE("a manifest with as many known answers as it may have fits in a frame", "[models][package]") {
  const auto outputs = GENERATE(1, 10, 1000, 1877, 3000, 7509);
  const std::size_t known = known_inputs_max(release_of(outputs, {"fp32", "int8"}));
  VersionManifest manifest;
  // A list of answers each, as fp32, int8 and the kernels of int8 have them.
  for (const char* name : {"fp32", "int8", "kernels"}) {
    VariantInfo& variant = manifest.variants.emplace_back();
    variant.name = name;
    variant.known_outputs.assign(known * static_cast<std::size_t>(outputs), 0.5F);
  }
  CAPTURE(outputs, known);
  CHECK(known > 0);
  const std::size_t bytes = encode(manifest).size();
  CHECK(bytes + 2 * sizeof(float) * 500 <= manifest_bytes_max);  // Ranges of 500 activations.
  CHECK(manifest_bytes_max <= 128 * 1024 - 32 * 1024);           // Of a frame: the rest is the task's.
}
