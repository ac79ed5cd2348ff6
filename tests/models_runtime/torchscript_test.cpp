#include <torch/script.h>

#include <map>
#include <sstream>

#include "models/runtime/local_statistics.h"
#include "models/runtime/model.h"
#include "tests/catch.h"
#include "tests/models_runtime/reference_networks.h"
#include "tests/models_runtime/small_architectures.h"

using namespace rivulet;

TEST_CASE("a written TorchScript file loads again with the same names, weights and answers",
          "[runtime][torchscript]") {
  const std::string kind = GENERATE_COPY(from_range(architecture_kinds()));
  const Architecture architecture = small_architecture(kind);
  CAPTURE(kind);
  Model model = Model::build(architecture).value();
  const std::vector<float> some = reference::uniform(4 * architecture.input_size(), -1, 1, 5);
  REQUIRE(with_local_statistics(model, model.initial_weights(4), some));
  const Bytes file = model.to_torchscript().value();
  // Each weight is in the file once.
  CHECK(file.size() < model.size() * sizeof(float) + 1000 * model.layout().tensors.size() + 10'000);

  std::istringstream in(std::string(text_of(file)));
  torch::jit::Module loaded = torch::jit::load(in);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& parameter : loaded.named_parameters()) {
    CHECK(parameter.value.requires_grad());
    tensors.emplace(parameter.name, parameter.value);
  }
  for (const auto& buffer : loaded.named_buffers()) {
    CHECK_FALSE(buffer.value.requires_grad());
    tensors.emplace(buffer.name, buffer.value);
  }
  REQUIRE(tensors.size() == model.layout().tensors.size());
  std::vector<float> weights;
  for (const TensorSpec& tensor : model.layout().tensors) {
    const at::Tensor& value = tensors.at(tensor.name);
    CHECK(value.requires_grad() == (tensor.kind == TensorKind::parameter));
    weights.insert(weights.end(), value.data_ptr<float>(), value.data_ptr<float>() + value.numel());
  }
  CHECK(weights == model.weights());

  const std::vector<float> inputs = reference::uniform(2 * architecture.input_size(), -1, 1, 6);
  std::vector<std::int64_t> shape = architecture.input_shape;
  shape.insert(shape.begin(), 2);
  const at::Tensor x = at::from_blob(const_cast<float*>(inputs.data()), shape, at::kFloat);
  const at::Tensor y = loaded.forward({x}).toTensor();
  const std::vector<float> expected = model.forward(inputs, 2).value();
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(y.data_ptr<float>()[i] == Approx(expected[i]).margin(1e-6));
}
