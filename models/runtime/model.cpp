#include "models/runtime/model.h"

#include <algorithm>
#include <sstream>

#include "models/runtime/architectures.h"
#include "models/runtime/input_tensor.h"
#include "models/runtime/model_impl.h"
#include "models/runtime/torchscript/user_model.h"
#include "protocol/assert.h"

namespace rivulet {
namespace {

Status check_length(std::size_t expected, std::size_t given) {
  if (expected == given) return {};
  return fail(Errc::invalid, fmt::format("the model has {} weights, but {} were given", expected, given));
}

}  // namespace

std::vector<at::Tensor> tensors_within(const at::Tensor& flat, const ParameterLayout& layout) {
  std::vector<at::Tensor> tensors;
  float* next = flat.data_ptr<float>();
  for (const TensorSpec& spec : layout.tensors) {
    // from_blob and not narrow: views would share autograd's version counter with each other.
    tensors.push_back(at::from_blob(next, spec.shape, [flat](void*) {}, at::kFloat));
    next += spec.size();
  }
  return tensors;
}

torch::jit::Module make_script_module(const Network& network, const std::vector<at::Tensor>& tensors) {
  const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  torch::jit::Module module(c10::QualifiedName("__torch__.rivulet.Network"), unit);
  auto next = tensors.begin();
  for (const Layer& layer : network.layers) {
    torch::jit::Module part(c10::QualifiedName("__torch__." + layer.type), unit,
                            /*shouldMangle=*/true);
    for (const TensorSpec& tensor : layer.tensors)
      part.register_parameter(tensor.name, *next++, /*is_buffer=*/tensor.kind == TensorKind::statistic);
    if (layer.has_mode) part.register_attribute("training", c10::BoolType::get(), false);
    part.define(layer.source);
    module.register_module(layer.name, part);
  }
  module.define(network.source);
  module.eval();
  return module;
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Result<Model> Model::build(const Architecture& architecture, ByteSpan graph) {
  if (architecture.kind == user_architecture) return torchscript::build_model(architecture, graph);
  const Result<Network> network = network_of(architecture);
  if (!network) return std::unexpected(network.error());
  return catch_torch("building the network", [&]() -> Result<Model> {
    const at::NoGradGuard no_grad;
    ParameterLayout layout = network->layout();
    const auto size = static_cast<std::int64_t>(layout.size());
    const at::Tensor weights = at::zeros({size}, at::kFloat);
    const at::Tensor gradient = at::zeros({size}, at::kFloat);
    std::vector<at::Tensor> parameters = tensors_within(weights, layout);
    const std::vector<at::Tensor> gradients = tensors_within(gradient, layout);
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (layout.tensors[i].kind == TensorKind::statistic) continue;
      parameters[i].set_requires_grad(true);
      parameters[i].mutable_grad() = gradients[i];
    }
    std::vector<CoordinateRange> held = ranges_of(layout, TensorKind::statistic);
    torch::jit::Module module = make_script_module(*network, parameters);
    return Model(std::make_unique<Impl>(Impl{architecture, std::move(layout), weights, gradient,
                                             std::move(module), nullptr, std::move(held)}));
  });
}

const Architecture& Model::architecture() const { return impl_->architecture; }
const ParameterLayout& Model::layout() const { return impl_->layout; }
const Digest& Model::graph_hash() const { return impl_->graph_hash; }
std::size_t Model::size() const { return impl_->weights_span().size(); }

Status Model::set_weights(std::span<const float> weights) {
  if (Status status = check_length(size(), weights.size()); !status) return status;
  std::ranges::copy(weights, impl_->weights_span().begin());
  return {};
}

std::vector<float> Model::weights() const {
  const std::span<const float> weights = impl_->weights_span();
  return {weights.begin(), weights.end()};
}

void Model::copy_weights(std::span<float> out) const {
  RIVULET_ASSERT(out.size() == size());
  std::ranges::copy(impl_->weights_span(), out.begin());
}

std::vector<float> Model::initial_weights(std::uint64_t seed) const {
  return rivulet::initial_weights(impl_->layout, seed);
}

Result<std::vector<float>> Model::forward(std::span<const float> inputs, std::size_t batch) {
  const std::size_t input_size = impl_->architecture.input_size();
  if (inputs.size() != batch * input_size)
    return fail(Errc::invalid, fmt::format("{} samples of {} numbers are {}, but {} were given", batch,
                                           input_size, batch * input_size, inputs.size()));
  if (batch == 0) return std::vector<float>{};
  return catch_torch("running the network", [&]() -> Result<std::vector<float>> {
    const at::NoGradGuard no_grad;
    const PlainExecution plain;
    const at::Tensor y = impl_->module.forward({input_tensor(inputs, batch)}).toTensor().contiguous();
    const float* begin = y.data_ptr<float>();
    return std::vector<float>(begin, begin + y.numel());
  });
}

Result<Model> Model::clone() const {
  if (impl_->user) return torchscript::clone_model(*impl_);
  Result<Model> copy = build(impl_->architecture);
  if (copy) std::ranges::copy(impl_->weights_span(), copy->impl_->weights_span().begin());
  return copy;
}

Result<Bytes> Model::to_torchscript(const std::map<std::string, std::string>& notes) const {
  if (impl_->user) return torchscript::write_model(*impl_, notes);
  const Result<Network> network = network_of(impl_->architecture);
  if (!network) return std::unexpected(network.error());
  return catch_torch("writing TorchScript", [&]() -> Result<Bytes> {
    const at::NoGradGuard no_grad;
    // Tensors of their own: one that lies within a larger storage would be saved with all of it.
    std::vector<at::Tensor> tensors;
    for (const at::Tensor& tensor : tensors_within(impl_->weights, impl_->layout)) {
      const TensorKind kind = impl_->layout.tensors[tensors.size()].kind;
      tensors.push_back(tensor.clone().set_requires_grad(kind == TensorKind::parameter));
    }
    std::ostringstream out;
    make_script_module(*network, tensors).save(out, {notes.begin(), notes.end()});
    return copy_of(bytes_of(out.str()));
  });
}

}  // namespace rivulet
