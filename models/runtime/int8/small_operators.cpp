#include "models/runtime/int8/small_operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <spdlog/fmt/fmt.h>
#include <torch/custom_class.h>
#include <torch/library.h>

#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "models/runtime/int8/vnni_kernels.h"

namespace rivulet::int8 {
namespace {

using torch::jit::Block;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

/// A dense layer, whose inputs are the last dimension of any number of them; a 1x1 convolution has the same
/// weights, but its inputs are the second of four.
struct DenseWeights {
  PointwiseWeights product;
};

/// The weights of one layer; a type that TorchScript can hold.
struct SmallLayer final : torch::CustomClassHolder {
  using Weights = std::variant<DenseWeights, PointwiseWeights, DepthwiseWeights>;

  explicit SmallLayer(Weights packed) : weights(std::move(packed)) {}

  Weights weights;
};

using Layer = c10::intrusive_ptr<SmallLayer>;

Requantization numbers_of(const at::Tensor& x, double scale, std::int64_t zero_point, bool has_relu) {
  return {.scale_x = static_cast<float>(x.q_scale()),
          .zero_x = static_cast<std::int32_t>(x.q_zero_point()),
          .scale_y = static_cast<float>(scale),
          .zero_y = static_cast<std::int32_t>(zero_point),
          .has_relu = has_relu};
}

std::uint8_t* bytes_of(const at::Tensor& tensor) { return static_cast<std::uint8_t*>(tensor.data_ptr()); }

at::Tensor empty(at::IntArrayRef shape, double scale, std::int64_t zero_point, at::MemoryFormat format) {
  return at::_empty_affine_quantized(shape, at::TensorOptions(at::kQUInt8), scale, zero_point, format);
}

/// The matrix product on the dimension `side`, which is the innermost in this memory format.
at::Tensor run_product(const PointwiseWeights& weights, const at::Tensor& x, std::size_t side,
                       const Requantization& numbers, double scale, std::int64_t zero_point,
                       at::MemoryFormat format) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  TORCH_CHECK(shape[side] == weights.inputs, "a small int8 layer of ", weights.inputs, " inputs got ",
              x.sizes());
  const std::int64_t rows = x.numel() / weights.inputs;
  shape[side] = weights.outputs;
  at::Tensor y = empty(shape, scale, zero_point, format);
  run_pointwise(weights, numbers, rows, bytes_of(x), bytes_of(y));
  return y;
}

/// x [n, inputs, height, width], or of a dense layer [..., inputs], in quint8.
at::Tensor run_layer(const at::Tensor& given, const Layer& layer, double scale, std::int64_t zero_point,
                     bool has_relu) {
  const auto* dense = std::get_if<DenseWeights>(&layer->weights);
  TORCH_CHECK(given.scalar_type() == at::kQUInt8 && (dense != nullptr ? given.dim() >= 1 : given.dim() == 4),
              "a small int8 layer takes quint8, in 4 dimensions if it is a convolution");
  const auto format = dense != nullptr ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
  const at::Tensor x = given.contiguous(format);
  const Requantization numbers = numbers_of(x, scale, zero_point, has_relu);
  if (dense != nullptr) {
    const auto last = static_cast<std::size_t>(x.dim() - 1);
    return run_product(dense->product, x, last, numbers, scale, zero_point, format);
  }
  if (const auto* pointwise = std::get_if<PointwiseWeights>(&layer->weights))
    return run_product(*pointwise, x, 1, numbers, scale, zero_point, format);
  const auto& depthwise = std::get<DepthwiseWeights>(layer->weights);
  std::vector<std::int64_t> shape = x.sizes().vec();
  TORCH_CHECK(shape[1] == depthwise.channels, "a small int8 layer of ", depthwise.channels, " channels got ",
              x.sizes());
  for (const std::size_t side : {std::size_t{2}, std::size_t{3}})
    shape[side] = (shape[side] + depthwise.stride - 1) / depthwise.stride;
  at::Tensor y = empty(shape, scale, zero_point, format);
  run_depthwise(depthwise, numbers, x.size(0), x.size(2), x.size(3), bytes_of(x), bytes_of(y));
  return y;
}

at::Tensor run_quantize(const at::Tensor& given, double scale, std::int64_t zero_point) {
  TORCH_CHECK(given.scalar_type() == at::kFloat, "only float32 is quantized");
  const at::Tensor x = given.contiguous();
  at::Tensor y = empty(x.sizes(), scale, zero_point, at::MemoryFormat::Contiguous);
  quantize(x.data_ptr<float>(), x.numel(), static_cast<float>(scale), static_cast<std::int32_t>(zero_point),
           bytes_of(y));
  return y;
}

TORCH_LIBRARY(rivulet, library) {
  library.class_<SmallLayer>("SmallLayer");
  library.def(
      "small_layer(Tensor x, __torch__.torch.classes.rivulet.SmallLayer layer, float scale, int zero_point, "
      "bool has_relu) -> Tensor",
      run_layer);
  library.def("quantize(Tensor x, float scale, int zero_point) -> Tensor", run_quantize);
}

torch::jit::Stack call(const char* name, const c10::IValue& packed) {
  torch::jit::Stack stack{packed};
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(stack);
  return stack;
}

/// What LibTorch packed, unpacked again.
struct Unpacked {
  std::vector<std::int64_t> shape;
  at::Tensor integers;
  at::Tensor scales;
  at::Tensor biases;
};

std::optional<Unpacked> unpack(const char* name, const c10::IValue& packed) {
  const torch::jit::Stack parts = call(name, packed);
  const at::Tensor& weight = parts.at(0).toTensor();
  if (weight.scalar_type() != at::kQInt8 || weight.qscheme() != at::kPerChannelAffine ||
      weight.q_per_channel_axis() != 0)
    return std::nullopt;
  if (weight.q_per_channel_zero_points().ne(0).any().item<bool>()) return std::nullopt;
  const bool has_bias = !parts.at(1).isNone() && parts.at(1).toTensor().defined();
  return Unpacked{.shape = weight.sizes().vec(),
                  .integers = weight.int_repr().contiguous(),
                  .scales = weight.q_per_channel_scales().to(at::kFloat).contiguous(),
                  .biases = has_bias ? parts.at(1).toTensor().detach().to(at::kFloat).contiguous()
                                     : at::zeros({weight.size(0)}, at::kFloat)};
}

PointwiseWeights pack_product(const Unpacked& weight) {
  return pack_pointwise(weight.shape[0], weight.shape[1], weight.integers.data_ptr<std::int8_t>(),
                        weight.scales.data_ptr<float>(), weight.biases.data_ptr<float>());
}

/// @return nothing unless our kernels know such a convolution.
Layer pack_convolution(const c10::IValue& packed) {
  const auto list = [&](const char* name) { return call(name, packed).at(0).toIntVector(); };
  const std::vector<std::int64_t> stride = list("quantized::conv2d_stride");
  const std::vector<std::int64_t> padding = list("quantized::conv2d_padding");
  const std::vector<std::int64_t> dilation = list("quantized::conv2d_dilation");
  const std::int64_t groups = call("quantized::conv2d_groups", packed).at(0).toInt();
  const auto weight = unpack("quantized::conv2d_unpack", packed);
  if (!weight || dilation != std::vector<std::int64_t>{1, 1} || stride[0] != stride[1]) return {};
  const std::int64_t outputs = weight->shape[0];
  const at::IntArrayRef sizes = at::IntArrayRef(weight->shape).slice(1);
  const std::vector<std::int64_t> none = {0, 0};
  if (groups == 1 && sizes.slice(1) == at::IntArrayRef{1, 1} && stride[0] == 1 && padding == none &&
      sizes[0] % 4 == 0)
    return c10::make_intrusive<SmallLayer>(pack_product(*weight));
  const std::vector<std::int64_t> frame = {1, 1};
  if (groups == outputs && sizes == at::IntArrayRef{1, 3, 3} && padding == frame && outputs % 8 == 0)
    return c10::make_intrusive<SmallLayer>(
        pack_depthwise(outputs, stride[0], weight->integers.data_ptr<std::int8_t>(),
                       weight->scales.data_ptr<float>(), weight->biases.data_ptr<float>()));
  return {};
}

Layer pack_linear(const c10::IValue& packed) {
  const auto weight = unpack("quantized::linear_unpack", packed);
  if (!weight || weight->shape[1] % 4 != 0) return {};
  return c10::make_intrusive<SmallLayer>(DenseWeights{pack_product(*weight)});
}

class Rewrite {
 public:
  explicit Rewrite(Module& module) : module_(module), graph_(module.get_method("forward").graph()) {}

  void run() {
    visit(*graph_->block());
    // LibTorch's form of the weights would only take memory.
    std::set<std::string> used;
    find_used(*graph_->block(), used);
    for (const std::string& name : replaced_)
      if (!used.contains(name)) {
        module_._ivalue()->unsafeRemoveAttr(name);
        module_.type()->unsafeRemoveAttribute(name);
      }
  }

 private:
  void visit(Block& block) {
    const std::vector<Node*> nodes(block.nodes().begin(), block.nodes().end());
    for (Node* node : nodes) {
      for (Block* inner : node->blocks()) visit(*inner);
      const std::string kind = node->kind().toQualString();
      if (kind == "quantized::conv2d" || kind == "quantized::conv2d_relu")
        replace_layer(node, pack_convolution, kind.ends_with("_relu"));
      if (kind == "quantized::linear" || kind == "quantized::linear_relu")
        replace_layer(node, pack_linear, kind.ends_with("_relu"));
      if (kind == "aten::quantize_per_tensor") replace_quantize(node);
    }
  }

  void replace_layer(Node* node, Layer (*pack)(const c10::IValue&), bool has_relu) {
    Node* source = node->input(1)->node();
    if (node->inputs().size() != 4 || source->kind() != c10::prim::GetAttr ||
        source->input() != graph_->inputs().at(0))
      return;
    const std::string& name = source->s(c10::attr::name);
    const Layer layer = pack(module_.attr(name));
    if (!layer) return;
    const std::string own = fmt::format("_rivulet_small_{}", layers_++);
    const c10::IValue constant(layer);
    module_.register_attribute(own, constant.type(), constant);
    replaced_.insert(name);
    const torch::jit::WithInsertPoint place(node);
    Value* weights = graph_->insertGetAttr(graph_->inputs().at(0), own);
    Value* relu = graph_->insertConstant(has_relu);
    replace(node, "rivulet::small_layer", {node->input(0), weights, node->input(2), node->input(3), relu});
    if (!source->hasUses()) source->destroy();
  }

  /// Of one scale for the whole tensor, in unsigned bytes.
  void replace_quantize(Node* node) {
    if (node->inputs().size() != 4 || node->schema().overload_name() != "") return;
    const auto type = torch::jit::toIValue(node->input(3));
    if (!type || !type->isInt() || type->toInt() != static_cast<std::int64_t>(at::kQUInt8)) return;
    replace(node, "rivulet::quantize", {node->input(0), node->input(1), node->input(2)});
  }

  void replace(Node* node, const char* kind, std::initializer_list<Value*> inputs) {
    Node* own = graph_->create(c10::Symbol::fromQualString(kind), {inputs.begin(), inputs.size()}, 1);
    own->output()->setType(node->output()->type());
    own->insertBefore(node);
    node->replaceAllUsesWith(own);
    node->destroy();
  }

  static void find_used(Block& block, std::set<std::string>& used) {
    for (Node* node : block.nodes()) {
      for (Block* inner : node->blocks()) find_used(*inner, used);
      if (node->kind() == c10::prim::GetAttr) used.insert(node->s(c10::attr::name));
    }
  }

  Module& module_;
  std::shared_ptr<torch::jit::Graph> graph_;
  std::size_t layers_ = 0;
  std::set<std::string> replaced_;  ///< Names of LibTorch's packed weights; a layer may be used twice.
};

}  // namespace

void use_own_kernels(Module& module) {
  if (has_vnni_kernels()) Rewrite(module).run();
}

}  // namespace rivulet::int8
