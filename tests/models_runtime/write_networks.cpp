// Writes one small network of each kind into a folder, for plain Python PyTorch to compare itself with:
//   write_networks FOLDER
// FOLDER/KIND.pt (TorchScript), FOLDER/KIND.npz: weights by name, and in "check.*" inputs, labels, the
// network's answers, and the weights' change by one step of descent with rate 1: "delta" of labels or rebuilt
// inputs, "soft" of these and of a teacher whose answers are "teacher".
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "models/package/npz.h"
#include "models/runtime/local_statistics.h"
#include "models/runtime/model.h"
#include "models/runtime/runtime.h"
#include "models/runtime/training.h"
#include "tests/models_runtime/reference_networks.h"
#include "tests/models_runtime/small_architectures.h"

using namespace rivulet;

namespace {

constexpr std::int64_t samples = 4;

Status write_network(const std::filesystem::path& folder, const std::string& kind) {
  const Architecture architecture = small_architecture(kind);
  auto model = Model::build(architecture);
  if (!model) return std::unexpected(model.error());
  std::vector<float> weights = model->initial_weights(3);
  const std::vector<float> noise =
      reference::uniform(weights.size(), -0.1, 0.1, 4);  // Also norms do something.
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] += noise[i];
  const std::vector<float> inputs = reference::uniform(samples * architecture.input_size(), -1, 1, 5);
  // Statistics of the inputs, where a network has such: without, a deep one answers nearly nothing.
  const auto measured = with_local_statistics(*model, weights, inputs);
  if (!measured) return std::unexpected(measured.error());
  weights = *measured;
  const std::vector<std::int64_t> labels = {0, 1, 2, 1};
  const std::vector<float> labels_written(labels.begin(), labels.end());
  const auto answers = model->forward(inputs, samples);
  if (!answers) return std::unexpected(answers.error());
  const auto file = model->to_torchscript();
  if (!file) return std::unexpected(file.error());
  TrainingData data{.inputs = inputs, .labels = labels};
  if (kind == "autoencoder")
    data = {.inputs = inputs, .labels = {}, .targets = {}, .task = TaskKind::anomaly};
  const auto outcome = train(*model, weights, data, {.epochs = 1, .batch_size = samples, .learning_rate = 1});
  if (!outcome) return std::unexpected(outcome.error());
  const std::vector<float> teacher =
      reference::uniform(samples * static_cast<std::size_t>(architecture.outputs), -3, 3, 6);
  data.teacher = SoftTargets{teacher, 4, 0.7};
  const auto taught = train(*model, weights, data, {.epochs = 1, .batch_size = samples, .learning_rate = 1});
  if (!taught) return std::unexpected(taught.error());

  std::vector<std::int64_t> shape = architecture.input_shape;
  shape.insert(shape.begin(), samples);
  std::vector<NpyArray> arrays = {{"check.inputs", shape, inputs},
                                  {"check.labels", {samples}, labels_written},
                                  {"check.answers", {samples, architecture.outputs}, *answers},
                                  {"check.teacher", {samples, architecture.outputs}, teacher}};
  std::size_t at = 0;
  for (const TensorSpec& tensor : model->layout().tensors) {
    arrays.push_back({tensor.name, tensor.shape, std::span<const float>(weights).subspan(at, tensor.size())});
    arrays.push_back({"check.delta." + tensor.name, tensor.shape,
                      std::span<const float>(outcome->delta).subspan(at, tensor.size())});
    arrays.push_back({"check.soft." + tensor.name, tensor.shape,
                      std::span<const float>(taught->delta).subspan(at, tensor.size())});
    at += tensor.size();
  }
  std::ofstream(folder / (kind + ".pt"), std::ios::binary) << text_of(*file);
  return write_npz(folder / (kind + ".npz"), arrays);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: write_networks FOLDER\n", stderr);
    return 2;
  }
  use_one_thread();
  for (const std::string& kind : architecture_kinds()) {
    const Status status = write_network(argv[1], kind);
    if (status) continue;
    std::fprintf(stderr, "write_networks: %s: %s\n", kind.c_str(), status.error().detail.c_str());
    return 1;
  }
  return 0;
}
