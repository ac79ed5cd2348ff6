#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/script.h>

#include <algorithm>
#include <set>

#include "models/package/snapshot.h"
#include "models/runtime/engine_module.h"
#include "models/runtime/int8/backend.h"
#include "models/runtime/int8/module_int8.h"
#include "models/runtime/int8/vnni_kernels.h"
#include "tests/catch.h"
#include "tests/models_quantization/networks.h"

using namespace rivulet;
using torch::jit::Module;

namespace {

/// A network put together from layers in TorchScript source, with random weights from a seed.
class Builder {
 public:
  Builder()
      : unit_(std::make_shared<torch::jit::CompilationUnit>()), network_({"__torch__.Network"}, unit_) {}

  /// @param type of torch.nn.modules, e.g. "conv.Conv2d".
  Builder& layer(const std::string& name, const std::string& type,
                 const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& tensors,
                 const std::string& body) {
    Module part(c10::QualifiedName("__torch__.torch.nn.modules." + type), unit_, /*shouldMangle=*/true);
    for (const auto& [tensor_name, shape] : tensors) {
      const bool positive = tensor_name == "running_var";
      const at::Tensor tensor = at::empty(shape, at::kFloat);
      const auto count = static_cast<std::size_t>(tensor.numel());
      std::ranges::copy(testing::uniform(count, positive ? 0.5 : -0.3, positive ? 1.5 : 0.3, ++seed_),
                        tensor.data_ptr<float>());
      part.register_parameter(tensor_name, tensor, /*is_buffer=*/tensor_name.starts_with("running"));
    }
    part.define("def forward(self, x):\n    return " + body + "\n");
    network_.register_module(name, part);
    return *this;
  }
  Builder& convolution(const std::string& name, std::int64_t inputs, std::int64_t outputs,
                       const std::string& padding = "[1, 1]") {
    return layer(name, "conv.Conv2d", {{"weight", {outputs, inputs, 3, 3}}, {"bias", {outputs}}},
                 "torch.conv2d(x, self.weight, self.bias, [1, 1], " + padding + ")");
  }
  Builder& dense(const std::string& name, std::int64_t inputs, std::int64_t outputs) {
    return layer(name, "linear.Linear", {{"weight", {outputs, inputs}}, {"bias", {outputs}}},
                 "torch.linear(x, self.weight, self.bias)");
  }
  Module finish(const std::string& lines) {
    network_.define("def forward(self, x):\n" + lines);
    network_.eval();
    return network_;
  }

 private:
  std::shared_ptr<torch::jit::CompilationUnit> unit_;
  Module network_;
  std::uint64_t seed_ = 0;
};

at::Tensor random(const std::vector<std::int64_t>& shape, std::uint64_t seed) {
  const at::Tensor tensor = at::empty(shape, at::kFloat);
  std::ranges::copy(testing::uniform(static_cast<std::size_t>(tensor.numel()), -1, 1, seed),
                    tensor.data_ptr<float>());
  return tensor;
}

at::Tensor run(const Module& module, const at::Tensor& x) {
  const c10::InferenceMode inference;
  Module copy = module;
  return copy.forward({x}).toTensor().contiguous();
}

double signal_to_noise(const at::Tensor& expected, const at::Tensor& actual) {
  return testing::signal_to_noise({expected.data_ptr<float>(), static_cast<std::size_t>(expected.numel())},
                                  {actual.data_ptr<float>(), static_cast<std::size_t>(actual.numel())});
}

Result<Module> build_static(const int8::ModuleFactory& make, const ActivationRanges& ranges,
                            int8::Kernels kernels = int8::Kernels::libtorch) {
  return int8::build_static(make, ranges, int8_backends().at(0), activation_bits_of_cpu(), kernels);
}

Result<Module> build_dynamic(const int8::ModuleFactory& make) {
  return int8::build_dynamic(make, int8_backends().at(0), activation_bits_of_cpu());
}

std::multiset<std::string> operators_of(const Module& module) {
  std::multiset<std::string> names;
  for (torch::jit::Node* node : module.get_method("forward").graph()->nodes())
    names.insert(node->kind().toQualString());
  return names;
}

/// The integers of every packed weight in a module, one list for each.
std::set<std::vector<std::int8_t>> packed_integers(const Module& module) {
  std::set<std::vector<std::int8_t>> all;
  for (const auto& attribute : module.named_attributes(/*recurse=*/false)) {
    if (!attribute.value.isCustomClass()) continue;
    const std::string type = attribute.value.type()->annotation_str();
    torch::jit::Stack stack{attribute.value};
    const bool is_dense = type.find("Linear") != std::string::npos;
    c10::Dispatcher::singleton()
        .findSchemaOrThrow(is_dense ? "quantized::linear_unpack" : "quantized::conv2d_unpack", "")
        .callBoxed(stack);
    const at::Tensor integers = stack.at(0).toTensor().int_repr().contiguous();
    const auto* begin = integers.data_ptr<std::int8_t>();
    all.insert({begin, begin + integers.numel()});
  }
  return all;
}

/// Those that a snapshot of the module's weights travels with.
std::set<std::vector<std::int8_t>> snapshot_integers(const Module& module) {
  std::set<std::vector<std::int8_t>> all;
  for (const auto& [name, tensor] : module.named_parameters()) {
    if (tensor.dim() < 2) continue;
    const ParameterLayout layout{{{name, tensor.sizes().vec(), TensorKind::parameter}}};
    const auto count = static_cast<std::size_t>(tensor.numel());
    const Bytes snapshot =
        encode_snapshot(SnapshotForm::int8, layout, {tensor.data_ptr<float>(), count}).value();
    const auto* begin = reinterpret_cast<const std::int8_t*>(snapshot.data()) + snapshot.size() - count;
    all.insert({begin, begin + count});
  }
  return all;
}

Module small_network() {
  return Builder()
      .convolution("conv1", 2, 8)
      .convolution("conv2", 8, 6)
      .dense("fc1", 96, 20)
      .dense("fc2", 20, 4)
      .finish(
          "    x = torch.relu(self.conv1.forward(x))\n"
          "    x = torch.max_pool2d(torch.relu(self.conv2.forward(x)), [2, 2])\n"
          "    x = x.view([-1, 96])\n"
          "    return self.fc2.forward(torch.relu(self.fc1.forward(x)))\n");
}

}  // namespace

TEST_CASE("static int8 has the integers of our snapshots, and fuses ReLU", "[int8][torchscript]") {
  const at::Tensor x = random({8, 2, 8, 8}, 50);
  const ActivationRanges ranges = int8::calibrate(small_network, {&x, 1}).value();
  CHECK(ranges.left_in_float.empty());
  const Module built = build_static(small_network, ranges).value();
  CHECK(packed_integers(built) == snapshot_integers(small_network()));
  CHECK(packed_integers(built).size() == 4);
  const std::multiset<std::string> operators = operators_of(built);
  CHECK(operators.count("quantized::conv2d_relu") == 2);
  CHECK(operators.count("quantized::linear_relu") == 1);
  CHECK(operators.count("quantized::linear") == 1);
  CHECK(operators.count("aten::quantize_per_tensor") == 1);
  CHECK(operators.count("aten::view") == 0);
  CHECK(signal_to_noise(run(small_network(), x), run(built, x)) > 30);
}

TEST_CASE("dynamic int8 has the integers of our snapshots in its dense layers", "[int8][torchscript]") {
  const auto make = [] {
    return Builder()
        .dense("fc1", 30, 20)
        .dense("fc2", 20, 4)
        .finish("    return self.fc2.forward(torch.relu(self.fc1.forward(x)))\n");
  };
  const Module built = build_dynamic(make).value();
  CHECK(packed_integers(built) == snapshot_integers(make()));
  CHECK(operators_of(built).count("quantized::linear_dynamic") == 2);
  const at::Tensor x = random({5, 30}, 51);
  CHECK(signal_to_noise(run(make(), x), run(built, x)) > 30);
}

TEST_CASE("batch norm goes into the convolution before it", "[int8][torchscript]") {
  const bool has_bias = GENERATE(true, false);
  const auto make = [has_bias] {
    Builder builder;
    if (has_bias) builder.convolution("conv", 3, 8);
    if (!has_bias)
      builder.layer("conv", "conv.Conv2d", {{"weight", {8, 3, 3, 3}}},
                    "torch.conv2d(x, self.weight, None, [1, 1], [1, 1])");
    return builder
        .layer("norm", "batchnorm.BatchNorm2d",
               {{"weight", {8}}, {"bias", {8}}, {"running_mean", {8}}, {"running_var", {8}}},
               "torch.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, False, 0.1, "
               "1e-5, "
               "False)")
        .finish("    return torch.relu(self.norm.forward(self.conv.forward(x)))\n");
  };
  const at::Tensor x = random({4, 3, 6, 6}, 52);
  const Module built = build_static(make, int8::calibrate(make, {&x, 1}).value()).value();
  CHECK(operators_of(built).count("quantized::conv2d_relu") == 1);
  CHECK(operators_of(built).count("aten::batch_norm") == 0);
  CHECK(signal_to_noise(run(make(), x), run(built, x)) > 30);
}

TEST_CASE("ReLU6 goes into the convolution before it, whose integers end at 6", "[int8][torchscript]") {
  const auto make = [] {
    return Builder()
        .convolution("first", 3, 8)
        .convolution("last", 8, 8)
        .finish(
            "    x = torch.hardtanh(self.first.forward(x), 0., 6.)\n"
            "    return self.last.forward(x)\n");
  };
  // Answers of the first convolution that are far above 6, and some that are all below.
  const at::Tensor large = 20 * random({4, 3, 6, 6}, 52);
  const at::Tensor small = 0.5 * random({4, 3, 6, 6}, 52);
  const ActivationRanges ranges = int8::calibrate(make, {&large, 1}).value();
  REQUIRE(ranges.values.size() == 3);
  CHECK(ranges.values[1] == ActivationRange{0, 6});
  const ActivationRange narrow = int8::calibrate(make, {&small, 1}).value().values[1];
  CHECK(narrow.low == 0);
  CHECK(narrow.high > 0.5F);
  CHECK(narrow.high < 6);
  for (const ActivationBits bits : {ActivationBits::eight, ActivationBits::seven}) {
    const Module built =
        int8::build_static(make, ranges, int8_backends().at(0), bits, int8::Kernels::libtorch).value();
    CHECK(operators_of(built).count("quantized::conv2d_relu") == 1);
    // Of 7 bits 127 stands for 6, and the operators go on to 255.
    CHECK(operators_of(built).count("aten::hardtanh") == (bits == ActivationBits::eight ? 0 : 1));
    CHECK(signal_to_noise(run(make(), large), run(built, large)) > 25);
  }
  // Published ranges may say that a ReLU6 reaches 60: it ends at 6 all the same.
  ActivationRanges wide = ranges;
  wide.values[1].high = 60;
  CHECK(signal_to_noise(run(make(), large), run(build_static(make, wide).value(), large)) > 15);
}

TEST_CASE("our own kernels answer as LibTorch's do", "[int8][torchscript][kernels]") {
  // A strided depthwise convolution between two of 1x1, on inputs below and above zero: all zero points
  // differ.
  const auto make = [] {
    return Builder()
        .layer("expand", "conv.Conv2d", {{"weight", {24, 4, 1, 1}}, {"bias", {24}}},
               "torch.conv2d(x, self.weight, self.bias)")
        .layer("depthwise", "conv.Conv2d", {{"weight", {24, 1, 3, 3}}},
               "torch.conv2d(x, self.weight, None, [2, 2], [1, 1], [1, 1], 24)")
        .layer("project", "conv.Conv2d", {{"weight", {20, 24, 1, 1}}}, "torch.conv2d(x, self.weight)")
        .dense("fc1", 20 * 3 * 4, 36)
        .dense("fc2", 36, 5)
        .finish(
            "    x = self.depthwise.forward(self.expand.forward(x))\n"
            "    x = torch.relu(self.project.forward(x)).reshape([-1, 240])\n"
            "    return self.fc2.forward(torch.relu(self.fc1.forward(x)))\n");
  };
  const at::Tensor x = random({3, 4, 5, 7}, 60);
  const ActivationRanges ranges = int8::calibrate(make, {&x, 1}).value();
  const Module theirs = build_static(make, ranges).value();
  const Module ours = build_static(make, ranges, int8::Kernels::own).value();
  const at::Tensor expected = run(theirs, x);
  CHECK(signal_to_noise(run(make(), x), run(ours, x)) > 30);
  // Halves may be rounded the other way here and there: a step in 255 of some activations.
  CHECK(signal_to_noise(expected, run(ours, x)) > 35);
  const at::Tensor one = x.narrow(0, 1, 1);
  CHECK(signal_to_noise(expected.narrow(0, 1, 1).contiguous(), run(ours, one)) > 35);
  if (!int8::has_vnni_kernels()) {
    WARN("this CPU has no AVX-512 VNNI: LibTorch's kernels were compared with themselves");
    return;
  }
  const std::multiset<std::string> operators = operators_of(ours);
  CHECK(operators.count("rivulet::small_layer") == 5);
  CHECK(operators.count("rivulet::quantize") == 1);
  CHECK(operators.count("quantized::conv2d") + operators.count("quantized::linear") == 0);
  // What LibTorch had packed is gone.
  for (const auto& attribute : ours.named_attributes(/*recurse=*/false))
    if (attribute.value.isCustomClass())
      CHECK(attribute.value.type()->annotation_str().find("SmallLayer") != std::string::npos);
}

TEST_CASE("our own kernels run a layer that is used twice", "[int8][torchscript][kernels]") {
  const auto make = [] {
    return Builder()
        .dense("shared", 8, 8)
        .dense("last", 8, 4)
        .finish(
            "    x = torch.relu(self.shared.forward(x))\n"
            "    x = torch.relu(self.shared.forward(x))\n"
            "    return self.last.forward(x)\n");
  };
  const at::Tensor x = random({6, 8}, 62);
  const ActivationRanges ranges = int8::calibrate(make, {&x, 1}).value();
  const Module theirs = build_static(make, ranges).value();
  const auto ours = build_static(make, ranges, int8::Kernels::own);
  INFO((ours ? std::string() : ours.error().detail));
  REQUIRE(ours);
  CHECK(signal_to_noise(run(theirs, x), run(*ours, x)) > 35);
  if (!int8::has_vnni_kernels()) return;
  CHECK(operators_of(*ours).count("rivulet::small_layer") == 3);
  for (const auto& attribute : ours->named_attributes(/*recurse=*/false))
    if (attribute.value.isCustomClass())
      CHECK(attribute.value.type()->annotation_str().find("SmallLayer") != std::string::npos);
}

TEST_CASE("our own dense layers work on the last dimension of any number of them",
          "[int8][torchscript][kernels]") {
  // As many in the second dimension as in the last, which tells no channels from inputs.
  const auto shape =
      GENERATE(as<std::vector<std::int64_t>>(), std::vector<std::int64_t>{6, 8},
               std::vector<std::int64_t>{3, 5, 8}, std::vector<std::int64_t>{3, 8, 8},
               std::vector<std::int64_t>{2, 8, 5, 8}, std::vector<std::int64_t>{2, 3, 2, 3, 8});
  const bool is_turned = GENERATE(false, true);  // A view whose last dimension is not the innermost.
  CAPTURE(shape, is_turned);
  const auto make = [is_turned] {
    return Builder()
        .dense("fc1", 8, 8)
        .dense("fc2", 8, 12)
        .finish(std::string(is_turned ? "    x = x.transpose(-1, 1)\n" : "") +
                "    return self.fc2.forward(torch.relu(self.fc1.forward(x)))\n");
  };
  at::Tensor x = random(shape, 61);
  if (is_turned) x = x.transpose(-1, 1).contiguous();
  const ActivationRanges ranges = int8::calibrate(make, {&x, 1}).value();
  const Module theirs = build_static(make, ranges).value();
  const Module ours = build_static(make, ranges, int8::Kernels::own).value();
  const at::Tensor expected = run(theirs, x);
  const at::Tensor actual = run(ours, x);
  REQUIRE(actual.sizes() == expected.sizes());
  CHECK(signal_to_noise(expected, actual) > 35);
  CHECK(signal_to_noise(run(make(), x), actual) > 30);
  if (int8::has_vnni_kernels()) CHECK(operators_of(ours).count("rivulet::small_layer") == 2);
}

TEST_CASE("bounded activations are right in optimized fp32, whatever the number of channels",
          "[engine][torchscript]") {
  // LibTorch's own pass answers wrongly for 8 and 24 of them.
  const std::int64_t channels = GENERATE(8, 16, 24);
  const std::string activation =
      GENERATE(as<std::string>(), "torch.hardtanh(x, 0., 6.)", "torch.hardtanh(x, -1., 2.)", "torch.relu6(x)",
               "torch.clamp(x, -1., 1.5)", "torch.clamp(x, None, 1.5)", "torch.clamp(x, -1., None)",
               "torch.hardswish(x)", "torch.hardsigmoid(x)", "torch.hardtanh_(x, 0., 6.)", "torch.relu(x)");
  CAPTURE(channels, activation);
  const Module plain = Builder()
                           .convolution("first", 3, channels)
                           .convolution("last", channels, 8)
                           .finish("    x = self.first.forward(x)\n    x = " + activation +
                                   "\n    return self.last.forward(x)\n");
  const at::Tensor x = 4 * random({4, 3, 6, 6}, 70);
  const at::Tensor expected = run(plain, x);
  const at::NoGradGuard no_grad;
  const Module optimized = optimize_frozen(torch::jit::freeze(plain));
  CHECK((run(optimized, x) - expected).abs().max().item<float>() < 1e-4F);
}

TEST_CASE("an activation in place is right in optimized fp32, whoever else sees its tensor",
          "[engine][torchscript]") {
  const std::string lines =
      GENERATE(as<std::string>(), "    torch.clamp_(torch.select(x, 1, 0), 0., 1.)\n    y = x\n",
               "    y = torch.hardtanh_(x, 0., 1.)\n    y = y + x\n",
               "    z = x.view([-1, 8, 36])\n    torch.hardtanh_(z, 0., 1.)\n    y = x\n");
  CAPTURE(lines);
  const Module plain =
      Builder()
          .convolution("first", 3, 8)
          .convolution("last", 8, 8)
          .finish("    x = self.first.forward(x)\n" + lines + "    return self.last.forward(y)\n");
  const at::Tensor x = 4 * random({4, 3, 6, 6}, 71);
  const at::Tensor expected = run(plain, x);
  const at::NoGradGuard no_grad;
  const Module optimized = optimize_frozen(torch::jit::freeze(plain));
  CHECK((run(optimized, x) - expected).abs().max().item<float>() < 1e-4F);
}

TEST_CASE("a bias that a convolution does not use stays out of it", "[int8][torchscript]") {
  const auto make = [] {
    return Builder()
        .layer("conv", "conv.Conv2d", {{"weight", {8, 3, 3, 3}}, {"bias", {8}}},
               "torch.conv2d(x, self.weight, None, [1, 1], [1, 1]) + self.bias.view([1, -1, 1, 1])")
        .convolution("last", 8, 8)
        .finish("    return self.last.forward(self.conv.forward(x))\n");
  };
  const at::Tensor x = random({4, 3, 6, 6}, 72);
  const Module built = build_static(make, int8::calibrate(make, {&x, 1}).value()).value();
  CHECK(signal_to_noise(run(make(), x), run(built, x)) > 25);
}

TEST_CASE("what LibTorch refuses to quantize is left in float by name", "[int8][torchscript]") {
  const auto make = [] {
    return Builder()
        .convolution("first", 3, 8)
        .convolution("same", 8, 8, "\"same\"")
        .layer("up", "conv.ConvTranspose2d", {{"weight", {8, 4, 2, 2}}, {"bias", {4}}},
               "torch.conv_transpose2d(x, self.weight, self.bias, [2, 2])")
        .convolution("last", 4, 2)
        .finish(
            "    x = torch.relu(self.same.forward(torch.relu(self.first.forward(x))))\n"
            "    return self.last.forward(self.up.forward(x))\n");
  };
  const at::Tensor x = random({4, 3, 6, 6}, 53);
  const ActivationRanges ranges = int8::calibrate(make, {&x, 1}).value();
  CHECK(ranges.left_in_float == std::vector<std::string>{"same", "up"});
  const Module built = build_static(make, ranges).value();
  const std::multiset<std::string> operators = operators_of(built);
  CHECK(operators.count("quantized::conv2d_relu") == 1);
  CHECK(operators.count("quantized::conv2d") == 1);
  CHECK(signal_to_noise(run(make(), x), run(built, x)) > 30);
  // Who holds ranges without those names learns why.
  const Error error = build_static(make, {ranges.values, {}}).error();
  CHECK((error.code == Errc::unsupported || error.code == Errc::invalid));
}

TEST_CASE("the order of the ranges hangs on the graph alone", "[int8][torchscript][ranges]") {
  // Many activations watched in one graph, whose observers LibTorch inserts in the order of addresses.
  const auto make = [] {
    Builder builder;
    std::string lines = "    sum = self.c0.forward(x)\n";
    builder.convolution("c0", 3, 4);
    for (int i = 1; i < 12; ++i) {
      const std::string name = "c" + std::to_string(i);
      builder.convolution(name, 3, 4);
      lines += "    sum = torch.add(sum, self." + name + ".forward(x))\n";
    }
    return builder.finish(lines + "    return torch.cat([sum, torch.relu(sum)], 1)\n");
  };
  const at::Tensor x = random({2, 3, 6, 6}, 54);
  const ActivationRanges first = int8::calibrate(make, {&x, 1}).value();
  CHECK(first.values.size() >= 24);
  std::vector<std::vector<char>> disturbance;  // Moves later allocations to other addresses.
  const at::Tensor expected = run(build_static(make, first).value(), x);
  for (std::size_t i = 1; i <= 6; ++i) {
    disturbance.emplace_back(1000 * i);
    CHECK(int8::calibrate(make, {&x, 1}).value() == first);
    CHECK(at::equal(run(build_static(make, first).value(), x), expected));
  }
  CHECK(signal_to_noise(run(make(), x), expected) > 30);
}

TEST_CASE("recurrent layers multiply in dynamic int8", "[int8][torchscript]") {
  const std::string kind = GENERATE("gru", "lstm");
  const std::int64_t gates = kind == "gru" ? 3 : 4;
  constexpr std::int64_t hidden = 24;
  const auto make = [&] {
    // Two layers in both directions; the second one reads both directions of the first.
    std::vector<std::pair<std::string, std::vector<std::int64_t>>> tensors;
    std::string parameters;
    for (const std::string suffix : {"l0", "l0_reverse", "l1", "l1_reverse"}) {
      const std::int64_t inputs = suffix.starts_with("l0") ? 6 : 2 * hidden;
      for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<std::int64_t>>>{
               {"weight_ih_" + suffix, {gates * hidden, inputs}},
               {"weight_hh_" + suffix, {gates * hidden, hidden}},
               {"bias_ih_" + suffix, {gates * hidden}},
               {"bias_hh_" + suffix, {gates * hidden}}}) {
        tensors.emplace_back(name, shape);
        parameters += (parameters.empty() ? "self." : ", self.") + name;
      }
    }
    const std::string state = "torch.zeros([4, x.size(1), 24])";
    return Builder()
        .layer("cells", kind == "gru" ? "rnn.GRU" : "rnn.LSTM", tensors,
               "torch." + kind + "(x, " + (kind == "gru" ? state : "[" + state + ", " + state + "]") + ", [" +
                   parameters + "], True, 2, 0.0, False, True, False)[0]")
        .dense("fc", 2 * hidden, 3)
        .finish("    return self.fc.forward(self.cells.forward(x))\n");
  };
  const Module built = build_dynamic(make).value();
  CHECK(operators_of(built).count("aten::quantized_" + kind) == 1);
  CHECK(operators_of(built).count("aten::" + kind) == 0);
  CHECK(operators_of(built).count("quantized::linear_dynamic") == 1);
  const at::Tensor x = random({10, 3, 6}, 55);
  CHECK(signal_to_noise(run(make(), x), run(built, x)) > 30);
}

TEST_CASE("a model without anything to quantize is unsupported, with the reason", "[int8][torchscript]") {
  const auto make = [] { return Builder().finish("    return torch.sin(x)\n"); };
  const at::Tensor x = random({2, 3}, 56);
  CHECK(int8::calibrate(make, {&x, 1}).error() ==
        Error{Errc::unsupported, "the model has no operation that LibTorch's static int8 knows"});
  CHECK(build_dynamic(make).error() ==
        Error{Errc::unsupported, "the model has no dense, GRU or LSTM layer with constant weights"});
}
