#include "models/runtime/release_model.h"

#include "protocol/sha256.h"

namespace rivulet {

Result<Model> build_model(const Release& release) {
  auto model = Model::build(release.architecture, release.graph);
  if (!model) return model;
  if (model->layout() != release.layout) {
    return fail(Errc::invalid, "the layout is not that of the architecture: the release contradicts itself");
  }
  return model;
}

bool is_model_of(const Model& model, const Release& release) {
  if (model.architecture() != release.architecture || model.layout() != release.layout) return false;
  return release.graph.empty() ? model.graph_hash() == Digest{} : model.graph_hash() == sha256(release.graph);
}

InferenceSpec inference_spec(const Release& release) {
  return {.architecture = release.architecture,
          .layout = release.layout,
          .task = release.task,
          .preprocessing = release.preprocessing,
          .classes = release.classes,
          .graph = release.graph};
}

}  // namespace rivulet
