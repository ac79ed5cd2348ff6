#include "models/runtime/torchscript/user_model.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <sstream>

#include "protocol/sha256.h"

namespace rivulet::torchscript {
namespace {

/// Statistics, and parameters that the user froze.
std::vector<CoordinateRange> held_ranges(const UserNetwork& network) {
  std::vector<CoordinateRange> ranges;
  std::size_t at = 0;
  for (const SharedTensor& tensor : network.shared) {
    const std::size_t end = at + tensor.spec.size();
    if (!tensor.trains && !ranges.empty() && ranges.back().end == at) {
      ranges.back().end = end;
    } else if (!tensor.trains) {
      ranges.push_back({at, end});
    }
    at = end;
  }
  return ranges;
}

/// Moves the network's tensors into one flat vector.
Model assemble(const Architecture& architecture, UserNetwork network, const Digest& graph_hash) {
  const at::NoGradGuard no_grad;
  ParameterLayout layout = network.layout();
  const auto size = static_cast<std::int64_t>(layout.size());
  const at::Tensor weights = at::zeros({size}, at::kFloat);
  const at::Tensor gradient = at::zeros({size}, at::kFloat);
  std::vector<at::Tensor> tensors = tensors_within(weights, layout);
  const std::vector<at::Tensor> gradients = tensors_within(gradient, layout);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].copy_(network.shared[i].value);
    network.shared[i].value.reset();
    if (!network.shared[i].trains) continue;
    tensors[i].set_requires_grad(true);
    tensors[i].mutable_grad() = gradients[i];
  }
  network.bind(tensors);
  network.reset_local();
  torch::jit::Module module = wrap(network.module, architecture);
  std::vector<CoordinateRange> held = held_ranges(network);
  auto user = std::make_shared<const UserNetwork>(std::move(network));
  return Model(std::make_unique<Model::Impl>(Model::Impl{architecture, std::move(layout), weights, gradient,
                                                         std::move(module), std::move(user), std::move(held),
                                                         graph_hash}));
}

std::vector<at::Tensor> own_tensors(const ParameterLayout& layout, std::span<const float> weights) {
  std::vector<at::Tensor> tensors;
  std::size_t offset = 0;
  for (const TensorSpec& tensor : layout.tensors) {
    tensors.push_back(at::empty(tensor.shape, at::kFloat));
    std::ranges::copy(weights.subspan(offset, tensor.size()), tensors.back().data_ptr<float>());
    offset += tensor.size();
  }
  return tensors;
}

}  // namespace

Result<Model> build_model(const Architecture& architecture, ByteSpan graph) {
  auto network = open_network(graph);
  if (!network) return std::unexpected(network.error());
  return catch_torch("building the network", [&]() -> Result<Model> {
    return assemble(architecture, std::move(*network), sha256(graph));
  });
}

Result<torch::jit::Module> build_module(const Architecture& architecture, const ParameterLayout& layout,
                                        ByteSpan graph, std::span<const float> weights) {
  const auto network = open_network(graph);
  if (!network) return std::unexpected(network.error());
  if (network->layout() != layout || layout.size() != weights.size())
    return fail(Errc::invalid, "the release's layout is not that of its TorchScript file");
  return catch_torch("building the network", [&]() -> Result<torch::jit::Module> {
    const at::NoGradGuard no_grad;
    network->bind(own_tensors(layout, weights));
    return wrap(network->module, architecture);
  });
}

Result<Model> clone_model(const Model::Impl& model) {
  return catch_torch("copying the network", [&]() -> Result<Model> {
    return assemble(model.architecture, duplicate(*model.user), model.graph_hash);
  });
}

Result<Bytes> write_model(const Model::Impl& model, const std::map<std::string, std::string>& notes) {
  return catch_torch("writing TorchScript", [&]() -> Result<Bytes> {
    const at::NoGradGuard no_grad;
    UserNetwork network = duplicate(*model.user);
    const std::span<const float> weights(model.weights.data_ptr<float>(), model.layout.size());
    std::vector<at::Tensor> tensors = own_tensors(model.layout, weights);
    for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].set_requires_grad(network.shared[i].trains);
    network.bind(tensors);
    network.reset_local();
    network.module.eval();
    std::ostringstream out;
    network.module.save(out, {notes.begin(), notes.end()});
    return copy_of(bytes_of(out.str()));
  });
}

TrainingMode::TrainingMode(Model::Impl& model, std::uint64_t seed) : model_(model) {
  if (model_.user) model_.user->reset_local();
  model_.module.train();
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  generator.set_current_seed(seed);
}

TrainingMode::~TrainingMode() { model_.module.eval(); }

}  // namespace rivulet::torchscript
