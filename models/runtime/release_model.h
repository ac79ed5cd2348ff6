#pragma once

#include "models/package/release.h"
#include "models/runtime/inference.h"
#include "models/runtime/model.h"

namespace rivulet {

/// The network of a release whose signature was verified. @return the errors of Model::build; invalid if the
/// network has another layout than the release.
Result<Model> build_model(const Release& release);

/// Whether `model` is a network that build_model would make of `release`.
bool is_model_of(const Model& model, const Release& release);

/// What InferenceModel::load needs of a release.
InferenceSpec inference_spec(const Release& release);

}  // namespace rivulet
