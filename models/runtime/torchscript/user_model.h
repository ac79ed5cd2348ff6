#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <map>
#include <string>

#include "models/runtime/model_impl.h"
#include "models/runtime/torchscript/network.h"

namespace rivulet::torchscript {

/// Model::build of a user's network. @param graph untrusted.
Result<Model> build_model(const Architecture& architecture, ByteSpan graph);
/// The network for inference: the module that build_model's model has, with tensors of these weights.
/// @param weights [layout.size()] @return invalid unless the graph has that layout.
Result<torch::jit::Module> build_module(const Architecture& architecture, const ParameterLayout& layout,
                                        ByteSpan graph, std::span<const float> weights);
Result<Model> clone_model(const Model::Impl& model);
/// The user's own module with the model's weights: it takes the shape that the user gave it.
/// @param notes as Model::to_torchscript has them.
Result<Bytes> write_model(const Model::Impl& model, const std::map<std::string, std::string>& notes);

/// A model that trains: dropout and batch norm work as in training while this lives, and as for answers
/// after it. What is local to the module is as the file has it at the start.
class TrainingMode {
 public:
  /// @param seed of dropout.
  TrainingMode(Model::Impl& model, std::uint64_t seed);
  TrainingMode(const TrainingMode&) = delete;
  TrainingMode& operator=(const TrainingMode&) = delete;
  ~TrainingMode();

 private:
  Model::Impl& model_;
};

}  // namespace rivulet::torchscript
