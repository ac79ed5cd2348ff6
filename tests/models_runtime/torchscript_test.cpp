#include <torch/script.h>

#include <sstream>

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
  REQUIRE(model.set_weights(model.initial_weights(4)));
  const Bytes file = model.to_torchscript().value();
  // Each weight is in the file once.
  CHECK(file.size() < model.size() * sizeof(float) + 1000 * model.layout().tensors.size() + 10'000);

  std::istringstream in(std::string(text_of(file)));
  torch::jit::Module loaded = torch::jit::load(in);
  std::vector<float> weights;
  std::vector<std::string> names;
  for (const auto& parameter : loaded.named_parameters()) {
    names.push_back(parameter.name);
    const float* begin = parameter.value.data_ptr<float>();
    weights.insert(weights.end(), begin, begin + parameter.value.numel());
  }
  CHECK(weights == model.weights());
  for (std::size_t i = 0; i < names.size(); ++i) CHECK(names[i] == model.layout().tensors[i].name);

  const std::vector<float> inputs = reference::uniform(2 * architecture.input_size(), -1, 1, 6);
  std::vector<std::int64_t> shape = architecture.input_shape;
  shape.insert(shape.begin(), 2);
  const at::Tensor x = at::from_blob(const_cast<float*>(inputs.data()), shape, at::kFloat);
  const at::Tensor y = loaded.forward({x}).toTensor();
  const std::vector<float> expected = model.forward(inputs, 2).value();
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(y.data_ptr<float>()[i] == Approx(expected[i]).margin(1e-6));
}
