#include <fstream>

#include "models/package/spec.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

namespace {

Result<ModelSpec> load(const TemporaryFolder& folder, const std::string& text) {
  std::ofstream(folder.path / "model.toml") << text;
  return load_model_spec(folder.path / "model.toml");
}

}  // namespace

TEST_CASE("a full specification is read as it stands", "[models][spec]") {
  TemporaryFolder folder;
  const auto spec = load(folder, R"(
name = "digits"
[model]
architecture = "mlp"
hidden = [64, 32]
[input]
shape = [64]
mean = [0.5]
scale = [16.0]
[task]
kind = "classification"
classes = ["0", "1", "2"]
[holdout]
path = "holdout.csv"
label = "digit"
[test]
path = "/srv/test.csv"
[version]
snapshot = "fp32"
variants = ["int8"]
[limits]
max_distance = 12.5
min_interval_s = 60
expires = "30d"
)");
  REQUIRE(spec.has_value());
  ModelSpec expected;
  expected.name = "digits";
  expected.architecture = {"mlp", {64, 32}, {64}, 3};
  expected.classes = {"0", "1", "2"};
  expected.preprocessing = {{0.5F}, {16.0F}};
  expected.holdout = ModelSpec::Labelled{folder.path / "holdout.csv", "digit"};
  expected.test = ModelSpec::Labelled{.path = "/srv/test.csv"};
  expected.snapshot = SnapshotForm::fp32;
  expected.recipes = {"int8"};
  expected.limits = {12.5, std::chrono::seconds(60), std::chrono::hours(720)};
  CHECK(*spec == expected);
}

TEST_CASE("a short specification has the documented defaults", "[models][spec]") {
  TemporaryFolder folder;
  const auto spec = load(folder, "name = 'a'\n[input]\nshape = [4]\n[task]\nclasses = ['x', 'y']\n");
  REQUIRE(spec.has_value());
  CHECK(spec->architecture == Architecture{"mlp", {200, 200}, {4}, 2});
  CHECK(spec->task == TaskKind::classification);
  CHECK(spec->preprocessing == Preprocessing{{0.0F}, {1.0F}});
  CHECK_FALSE(spec->holdout);
  CHECK_FALSE(spec->test);
  CHECK(spec->snapshot == SnapshotForm::int8);
  CHECK(spec->recipes == std::vector<std::string>{"fp32", "int8"});
  CHECK(spec->limits.max_distance == 0.0);
  CHECK(spec->limits.expires == std::chrono::hours(24 * 365));

  const auto softmax =
      load(folder, "name = 'a'\nmodel.hidden = []\n[input]\nshape = [4]\n[task]\nclasses = ['x', 'y']\n");
  REQUIRE(softmax.has_value());
  CHECK(softmax->architecture.hidden.empty());

  const auto cnn =
      load(folder, "name = 'a'\n[model]\narchitecture = 'mcmahan_cnn'\n[task]\nclasses = ['x', 'y']\n");
  REQUIRE(cnn.has_value());
  CHECK(cnn->architecture == Architecture{"mcmahan_cnn", {}, {1, 28, 28}, 2});
}

TEST_CASE("each kind of network reads its own keys, and has defaults for them", "[models][spec]") {
  TemporaryFolder folder;
  const auto read = [&](const std::string& model, const std::string& shape, const std::string& task) {
    const auto spec =
        load(folder, "name = 'a'\n[model]\n" + model + "\n[input]\nshape = " + shape + "\n[task]\n" + task);
    INFO((spec ? std::string() : spec.error().detail));
    REQUIRE(spec.has_value());
    return spec->architecture;
  };
  const std::string two = "classes = ['x', 'y']\n";
  CHECK(read("architecture = 'cnn'", "[1, 8, 8]", two) == Architecture{.kind = "cnn",
                                                                       .hidden = {128},
                                                                       .input_shape = {1, 8, 8},
                                                                       .outputs = 2,
                                                                       .channels = {32, 64},
                                                                       .kernel = 3,
                                                                       .pool = 2});
  CHECK(read("architecture = 'cnn1d'\nchannels = [16]\nkernel = 9\npool = 1\nhidden = [7]", "[6, 128]",
             two) == Architecture{.kind = "cnn1d",
                                  .hidden = {7},
                                  .input_shape = {6, 128},
                                  .outputs = 2,
                                  .channels = {16},
                                  .kernel = 9,
                                  .pool = 1});
  CHECK(read("architecture = 'gru'\nhidden = [32]", "[6, 128]", "kind = 'regression'\n") ==
        Architecture{.kind = "gru", .hidden = {32}, .input_shape = {6, 128}, .outputs = 1});
  CHECK(read("architecture = 'autoencoder'", "[4, 5]", "kind = 'anomaly'\n") ==
        Architecture{.kind = "autoencoder", .hidden = {64, 16}, .input_shape = {4, 5}, .outputs = 20});
  CHECK(
      read("architecture = 'resnet18'\nwidth = 0.5\ngroups = 8", "[3, 32, 32]", two) ==
      Architecture{.kind = "resnet18", .input_shape = {3, 32, 32}, .outputs = 2, .width = 0.5, .groups = 8});
  CHECK(read("architecture = 'mobilenet_v2'", "[3, 96, 96]", two) ==
        Architecture{.kind = "mobilenet_v2", .input_shape = {3, 96, 96}, .outputs = 2, .width = 1});
  CHECK(
      read("architecture = 'mobilenet_v2'\nwidth = 0.35\nresolution = 64", "[1, 28, 28]", two) ==
      Architecture{
          .kind = "mobilenet_v2", .input_shape = {1, 28, 28}, .outputs = 2, .width = 0.35, .resolution = 64});
}

TEST_CASE("a built-in network with batch norm has its statistics averaged or local", "[models][spec]") {
  TemporaryFolder folder;
  const auto with = [&](const std::string& model) {
    return load(folder, "name = 'a'\n[model]\narchitecture = " + model +
                            "\n[input]\nshape = [3, 64, 64]\n[task]\nclasses = ['x', 'y']\n");
  };
  CHECK(with("'mobilenet_v2'")->batch_norm == BatchNorm::averaged);
  CHECK(with("'mobilenet_v2'\nbatch_norm = 'averaged'")->batch_norm == BatchNorm::averaged);
  CHECK(with("'mobilenet_v2'\nbatch_norm = 'local'")->batch_norm == BatchNorm::local);
  CHECK_FALSE(with("'mobilenet_v2'\nbatch_norm = 'global'"));
  // The coordinator has no statistics to score with.
  for (const std::string section : {"holdout", "test"}) {
    CHECK(with("'mobilenet_v2'\nbatch_norm = 'averaged'\n[" + section + "]\npath = 'h.csv'"));
    const auto scored = with("'mobilenet_v2'\nbatch_norm = 'local'\n[" + section + "]\npath = 'h.csv'");
    REQUIRE_FALSE(scored);
    CHECK(scored.error().detail.find(section + " would be scored with statistics that no node uses") !=
          std::string::npos);
  }
  CHECK(with("'mobilenet_v2'\npath = 'm.pt'").error().detail.find("model.path belongs to architecture = ") !=
        std::string::npos);
  CHECK(with("'resnet18'\nbatch_norm = 'local'")
            .error()
            .detail.find("model.batch_norm belongs to architecture = \"torchscript\" or \"mobilenet_v2\"") !=
        std::string::npos);
}

TEST_CASE("a user's network has a file in place of sizes", "[models][spec]") {
  TemporaryFolder folder;
  const std::string rest = "\n[input]\nshape = [1, 28, 28]\n[task]\nclasses = ['x', 'y']\n";
  const auto with = [&](const std::string& model) {
    return load(folder, "name = 'a'\n[model]\n" + model + rest);
  };
  const auto spec = with("architecture = 'torchscript'\npath = 'nets/m.pt'");
  REQUIRE(spec.has_value());
  CHECK(spec->architecture ==
        Architecture{.kind = "torchscript", .hidden = {}, .input_shape = {1, 28, 28}, .outputs = 2});
  CHECK(spec->graph == folder.path / "nets/m.pt");
  CHECK(spec->batch_norm == BatchNorm::averaged);
  CHECK(with("architecture = 'torchscript'\npath = 'm.pt'\nbatch_norm = 'local'")->batch_norm ==
        BatchNorm::local);
  CHECK_FALSE(with("architecture = 'torchscript'\npath = 'm.pt'\nbatch_norm = 'global'"));
  CHECK(with("architecture = 'torchscript'").error().detail.find("path") != std::string::npos);
  CHECK(with("architecture = 'torchscript'\npath = 'm.pt'\nhidden = [3]").error().detail.find("hidden") !=
        std::string::npos);
  CHECK(with("architecture = 'mlp'\npath = 'm.pt'").error().detail.find("torchscript") != std::string::npos);
}

TEST_CASE("a model that is pruned travels in a sparse form", "[models][spec]") {
  TemporaryFolder folder;
  const std::string head = "name = 'a'\n[input]\nshape = [4]\n[task]\nclasses = ['x', 'y']\n";
  const auto dense = load(folder, head + "[pruning]\nsparsity = 0\nrounds = 3\n");
  REQUIRE(dense.has_value());
  CHECK(dense->snapshot == SnapshotForm::int8);
  CHECK(load(folder, head)->pruning == PruningPlan{0.0, 0, 20});
  const auto usual = load(folder, head + "[pruning]\nsparsity = 0.6\n");
  REQUIRE(usual.has_value());
  CHECK(usual->pruning == PruningPlan{0.6, 0, 20});
  CHECK(usual->snapshot == SnapshotForm::sparse_int8);
  const auto fp32 = load(
      folder, head + "[version]\nsnapshot = 'fp32'\n[pruning]\nsparsity = 0.9\nbegin = 5\nrounds = 40\n");
  REQUIRE(fp32.has_value());
  CHECK(fp32->pruning == PruningPlan{0.9, 5, 40});
  CHECK(fp32->snapshot == SnapshotForm::sparse_fp32);
}

TEST_CASE("regressions and anomaly models have outputs instead of classes", "[models][spec]") {
  TemporaryFolder folder;
  const auto regression = load(folder, "name = 'a'\n[input]\nshape = [4]\n[task]\nkind = 'regression'\n");
  REQUIRE(regression.has_value());
  CHECK(regression->architecture.outputs == 1);
  const auto anomaly = load(folder, "name = 'a'\n[input]\nshape = [4, 3]\n[task]\nkind = 'anomaly'\n");
  REQUIRE(anomaly.has_value());
  CHECK(anomaly->architecture.outputs == 12);
}

TEST_CASE("a specification names the loss, of which a regression has a choice", "[models][spec]") {
  TemporaryFolder folder;
  const auto with = [&](const std::string& task) {
    return load(folder, "name = 'a'\n[input]\nshape = [4]\n[task]\n" + task);
  };
  const std::string regression = "kind = 'regression'\n", classes = "classes = ['x', 'y']\n";
  CHECK(with(regression)->loss == RegressionLoss::squared);
  CHECK(with(regression + "loss = 'mse'\n")->loss == RegressionLoss::squared);
  CHECK(with(regression + "loss = 'huber'\n")->loss == RegressionLoss::huber);
  CHECK(with(regression + "loss = 'mae'\n")->loss == RegressionLoss::absolute);
  CHECK(with(classes + "loss = 'cross_entropy'\n")->loss == RegressionLoss::squared);
  CHECK(with("kind = 'anomaly'\nloss = 'mse'\n").has_value());
  const auto refused = [&](const std::string& task, const std::string& words) {
    const auto spec = with(task);
    REQUIRE_FALSE(spec.has_value());
    CAPTURE(spec.error().detail);
    CHECK(spec.error().detail.find(words) != std::string::npos);
  };
  refused(regression + "loss = 'cross_entropy'\n",
          "6: task.loss is 'cross_entropy'; it must be one of: mse, huber, mae");
  refused(classes + "loss = 'mse'\n", "6: task.loss is 'mse'; it must be one of: cross_entropy");
  refused("kind = 'anomaly'\nloss = 'huber'\n", "6: task.loss is 'huber'; it must be one of: mse");
}

TEST_CASE("a label of a file is named, or left to the file's format", "[models][spec]") {
  TemporaryFolder folder;
  const std::string head =
      "name = 'a'\n[input]\nshape = [4]\n[task]\nkind = 'anomaly'\n[holdout]\npath = 'x.csv'\n";
  CHECK(load(folder, head)->holdout->label == std::nullopt);
  CHECK(load(folder, head + "label = 'label'\n")->holdout->label == "label");
  CHECK_FALSE(load(folder, head + "label = ''\n").has_value());
}

TEST_CASE("a specification with a mistake says in which line and key", "[models][spec]") {
  TemporaryFolder folder;
  const std::string head = "name = 'a'\n[input]\nshape = [4]\n[task]\nclasses = ['x', 'y']\n";  // 5 lines
  const auto problem = [&](const std::string& text) {
    const auto spec = load(folder, text);
    REQUIRE_FALSE(spec.has_value());
    CHECK(spec.error().code == Errc::invalid);
    const std::string prefix = (folder.path / "model.toml").string() + ":";
    REQUIRE(spec.error().detail.substr(0, prefix.size()) == prefix);
    return spec.error().detail.substr(prefix.size());
  };
  using Catch::Matchers::StartsWith;
  CHECK_THAT(problem("nmae = 'a'\n"), StartsWith("1: nmae is not a key"));
  CHECK_THAT(problem("[input]\nshape = [4]\n[task]\nclasses = ['x', 'y']\n"), StartsWith(" name is missing"));
  CHECK_THAT(problem("name = 'a'\n[task]\nclasses = ['x', 'y']\n"), StartsWith(" input.shape is missing"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = [4]\n"), StartsWith(" task.classes is missing"));
  CHECK_THAT(problem("name = 'a/b'\n"), StartsWith("1: name is wrong"));
  CHECK_THAT(problem(head + "[model]\narchitecture = 'resnet'\n"),
             StartsWith("7: model.architecture is 'resnet'"));
  CHECK_THAT(problem(head + "[model]\nhidden = [0]\n"), StartsWith("7: model.hidden has an element"));
  CHECK_THAT(
      problem(
          "name = 'a'\n[model]\narchitecture = 'mcmahan_cnn'\nhidden = [5]\n[task]\nclasses = ['x', 'y']\n"),
      StartsWith("4: model.hidden does not belong to mcmahan_cnn; it has no keys"));
  CHECK_THAT(problem("name = 'a'\n[model]\narchitecture = 'mcmahan_cnn'\n[input]\nshape = [28, 28]\n"),
             StartsWith("5: input.shape must be [1, 28, 28] or [784]"));
  const auto of_model = [&](const std::string& model, const std::string& shape) {
    return problem("name = 'a'\n[task]\nclasses = ['x', 'y']\n[input]\nshape = " + shape + "\n[model]\n" +
                   model);
  };
  CHECK_THAT(of_model("architecture = 'gru'\nkernel = 3\n", "[6, 128]"),
             StartsWith("8: model.kernel does not belong to gru; its keys are: hidden"));
  CHECK_THAT(of_model("architecture = 'cnn'\nwdith = 3\n", "[1, 8, 8]"),
             StartsWith("8: model.wdith is not a key"));
  CHECK_THAT(of_model("architecture = 'cnn1d'\nkernel = 4\n", "[6, 128]"),
             StartsWith("8: model.kernel is 4; it must be odd"));
  CHECK_THAT(of_model("architecture = 'cnn'\nchannels = []\n", "[1, 8, 8]"),
             StartsWith("8: model.channels must name"));
  CHECK_THAT(
      of_model("pool = 4\narchitecture = 'cnn1d'\n", "[6, 7]"),
      StartsWith("7: model.pool is 4, but only 1 of the input's 7 in dimension 1 are left behind conv2"));
  CHECK_THAT(of_model("architecture = 'cnn1d'\n", "[128]"),
             StartsWith("5: input.shape is [128], but the input of cnn1d is [channels, length]"));
  CHECK_THAT(
      of_model("architecture = 'autoencoder'\n", "[4]"),
      StartsWith("7: model.architecture is autoencoder, which rebuilds its 4 inputs, but has 2 outputs"));
  CHECK_THAT(of_model("architecture = 'resnet18'\nwidth = 0.01\n", "[3, 8, 8]"),
             StartsWith("8: model.width is 0.01"));
  CHECK_THAT(of_model("architecture = 'resnet18'\ngroups = 7\n", "[3, 8, 8]"),
             StartsWith("8: model.groups is 7; it must divide the 64 channels"));
  CHECK_THAT(of_model("architecture = 'mobilenet_v2'\nwidth = 5\n", "[3, 64, 64]"),
             StartsWith("8: model.width is 5; that of mobilenet_v2 lies in 0.1 to 4"));
  CHECK_THAT(of_model("architecture = 'mobilenet_v2'\nresolution = 16\n", "[3, 64, 64]"),
             StartsWith("8: model.resolution is 16; it lies in 32 to 1024, or is 0"));
  CHECK_THAT(problem("name = 'a'\n[model]\narchitecture = 'cnn'\n[task]\nclasses = ['x', 'y']\n"),
             StartsWith(" input.shape is missing"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = []\n"), StartsWith("3: input.shape must have"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = [-1]\n"), StartsWith("3: input.shape has an element"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = [1048576, 1048576]\n"),
             StartsWith("3: input.shape has more than"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = [4]\nscale = [0]\n"),
             StartsWith("4: input.scale is wrong"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = [4]\nmean = [1, 2]\n"),
             StartsWith("4: input.mean is wrong: mean has 2"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = [4]\nmean = [1e300]\n"),
             StartsWith("4: input.mean has an element"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = [4]\n[task]\nclasses = ['x']\n"),
             StartsWith("5: task.classes must name"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = [4]\n[task]\nclasses = ['x', 'x']\n"),
             StartsWith("5: task.classes names one twice"));
  CHECK_THAT(problem(head + "outputs = 2\n"), StartsWith("6: task.outputs is the number"));
  CHECK_THAT(problem("name = 'a'\n[input]\nshape = [4]\n[task]\nkind = 'regression'\noutputs = 3\n"),
             StartsWith("6: task.outputs must be 1 in a regression: the label of a sample is one number"));
  CHECK_THAT(problem(head + "kind = 'regression'\n"),
             StartsWith("5: task.classes belongs to a classification"));
  CHECK_THAT(problem(head + "[holdout]\nlabel = 'x'\n"), StartsWith(" holdout.path is missing"));
  CHECK_THAT(problem(head + "[version]\nsnapshot = 'int4'\n"), StartsWith("7: version.snapshot is 'int4'"));
  CHECK_THAT(problem(head + "[version]\nvariants = ['pruned']\n"),
             StartsWith("7: version.variants names 'pruned'"));
  CHECK_THAT(problem(head + "[pruning]\nsparsity = 1\n"), StartsWith("7: pruning.sparsity must be below 1"));
  CHECK_THAT(problem(head + "[pruning]\nsparsity = -0.1\n"), StartsWith("7: pruning.sparsity is -0.1"));
  CHECK_THAT(problem(head + "[pruning]\nsparsity = '60%'\n"),
             StartsWith("7: pruning.sparsity must be a number"));
  CHECK_THAT(problem(head + "[pruning]\nsparsity = 0.6\nrounds = 0\n"), StartsWith("8: pruning.rounds is 0"));
  CHECK_THAT(problem(head + "[pruning]\nbegin = -1\n"), StartsWith("7: pruning.begin is -1"));
  CHECK_THAT(problem(head + "[pruning]\nsparsty = 0.6\n"), StartsWith("7: pruning.sparsty is not a key"));
  CHECK_THAT(problem(head + "[limits]\nmax_distance = -1\n"), StartsWith("7: limits.max_distance is -1"));
  CHECK_THAT(problem(head + "[limits]\nexpires = 365\n"), StartsWith("7: limits.expires must be a string"));
  CHECK_THAT(problem(head + "[limits]\nexpires = '0d'\n"), StartsWith("7: limits.expires is 0d"));
  CHECK_THAT(problem("name = \n"), StartsWith("1:"));
}
