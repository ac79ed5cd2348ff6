#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "models/dataset/dataset.h"
#include "models/package/snapshot.h"
#include "models/runtime/calibration.h"
#include "models/runtime/runtime.h"
#include "models/runtime/training.h"
#include "tests/catch.h"
#include "tests/models_quantization/networks.h"

using namespace rivulet;
using namespace rivulet::testing;

namespace {

/// Samples of Fashion-MNIST as the file has them, from 0 to 1; nothing where it is not there.
std::optional<Dataset> read_fashion(const char* file, std::size_t count) {
  const char* set = std::getenv("RIVULET_DATA");
  const std::filesystem::path folder =
      std::filesystem::path(set != nullptr ? set : "../shared/data") / "fashion_mnist";
  if (!std::filesystem::is_directory(folder)) return std::nullopt;
  SampleOptions options;
  options.scale_bytes = true;
  const LabelRule rule{TaskKind::classification, {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}};
  const auto all = load_dataset(folder / file, SampleFormat::idx, options, rule);
  std::vector<std::size_t> indices(count);
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  return select(all.value(), indices);
}

}  // namespace

TEST_CASE("MobileNetV2 loses at most half a point of accuracy in int8", "[int8][accuracy]") {
  const std::optional<Dataset> training = read_fashion("train-images-idx3-ubyte.gz", 2000);
  const std::optional<Dataset> test = read_fashion("t10k-images-idx3-ubyte.gz", 2000);
  if (!training || !test) {
    WARN("skipped: there is no fashion_mnist in RIVULET_DATA or ../shared/data");
    return;
  }
  use_one_thread();
  const Architecture architecture{
      .kind = "mobilenet_v2", .input_shape = {1, 28, 28}, .outputs = 10, .width = 0.25, .resolution = 64};
  Model model = Model::build(architecture).value();
  const TrainingParameters parameters{
      .epochs = 4, .batch_size = 32, .learning_rate = 0.003, .optimizer = OptimizerKind::adam};
  std::ignore =
      train(model, model.initial_weights(1), {training->inputs, training->labels}, parameters).value();
  const std::vector<float> weights = model.weights();
  const InferenceSpec spec = classes_of(architecture);
  const auto calibration = std::span<const float>(training->inputs).first(std::size_t{500} * 784);
  const ActivationRanges ranges = calibrate(spec, weights, calibration).value();
  CHECK(ranges.left_in_float.empty());
  const auto accuracy = [&](const EngineSetup& setup) {
    const auto answered =
        InferenceModel::load(spec, weights, setup).value().infer_batch(test->inputs).value();
    std::size_t right = 0;
    for (std::size_t i = 0; i < answered.size(); ++i) right += answered[i].class_index == test->labels[i];
    return static_cast<double>(right) / static_cast<double>(answered.size());
  };
  const double fp32 = accuracy({});
  const double fixed = accuracy(int8_setup(EngineKind::int8_static, ranges));
  WARN("fp32 " << fp32 << ", static int8 " << fixed);
  CHECK(fp32 > 0.6);
  CHECK(fixed >= fp32 - 0.005);
}

TEST_CASE("MobileNetV2 in int8 takes less than a third of its bytes", "[int8]") {
  const auto share = [](double width, std::int64_t outputs) {
    const ParameterLayout layout =
        layout_of({.kind = "mobilenet_v2", .input_shape = {3, 64, 64}, .outputs = outputs, .width = width})
            .value();
    return static_cast<double>(snapshot_size(SnapshotForm::int8, layout)) /
           static_cast<double>(snapshot_size(SnapshotForm::fp32, layout));
  };
  // By hand: integers of one byte; a scale for each row in two; biases, norms and statistics in four. The
  // smaller the layers, the more of it are the latter.
  CHECK(share(1, 1000) == Approx(0.26722).margin(1e-4));
  CHECK(share(0.5, 1000) == Approx(0.26696).margin(1e-4));
  CHECK(share(1, 10) == Approx(0.27629).margin(1e-4));
  CHECK(share(0.5, 10) == Approx(0.29515).margin(1e-4));
}
