#pragma once

#include "models/package/release.h"
#include "models/runtime/architectures.h"
#include "node/daemon/inference.h"
#include "protocol/assert.h"

namespace rivulet::node {

/// A softmax regression of `inputs` numbers and `outputs` classes named "0", "1", …
inline Release softmax_release(std::int64_t inputs, std::int64_t outputs) {
  Release release;
  release.name = "test";
  release.architecture = {.kind = "mlp", .hidden = {}, .input_shape = {inputs}, .outputs = outputs};
  const auto layout = layout_of(release.architecture);
  RIVULET_ASSERT(layout);
  release.layout = *layout;
  for (std::int64_t i = 0; i < outputs; ++i) release.classes.push_back(std::to_string(i));
  release.known_inputs.assign(static_cast<std::size_t>(inputs), 1.0F);
  return release;
}

/// Weights zero and biases that make every sample class `winner`, with a probability that tells `version`.
inline std::vector<float> constant_weights(const Release& release, std::size_t winner, float bias) {
  std::vector<float> weights(release.layout.size(), 0.0F);
  weights[weights.size() - release.classes.size() + winner] = bias;
  return weights;
}

inline std::shared_ptr<const ServedModel> constant_model(const Release& release, VersionNumber version,
                                                         std::size_t winner, float bias = 3.0F) {
  VersionManifest manifest;
  manifest.version = version;
  manifest.manifest_version = version;
  auto model = load_served_model(release, constant_weights(release, winner, bias), manifest, "fp32");
  RIVULET_ASSERT(model);
  return *model;
}

}  // namespace rivulet::node
