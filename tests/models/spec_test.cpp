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
  expected.test = ModelSpec::Labelled{"/srv/test.csv", "label"};
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

TEST_CASE("regressions and anomaly models have outputs instead of classes", "[models][spec]") {
  TemporaryFolder folder;
  const auto regression = load(folder, "name = 'a'\n[input]\nshape = [4]\n[task]\nkind = 'regression'\n");
  REQUIRE(regression.has_value());
  CHECK(regression->architecture.outputs == 1);
  const auto anomaly = load(folder, "name = 'a'\n[input]\nshape = [4, 3]\n[task]\nkind = 'anomaly'\n");
  REQUIRE(anomaly.has_value());
  CHECK(anomaly->architecture.outputs == 12);
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
      StartsWith("4: model.hidden belongs to an mlp"));
  CHECK_THAT(problem("name = 'a'\n[model]\narchitecture = 'mcmahan_cnn'\n[input]\nshape = [28, 28]\n"),
             StartsWith("5: input.shape must be [1, 28, 28] or [784]"));
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
  CHECK_THAT(problem(head + "kind = 'regression'\n"),
             StartsWith("5: task.classes belongs to a classification"));
  CHECK_THAT(problem(head + "[holdout]\nlabel = 'x'\n"), StartsWith(" holdout.path is missing"));
  CHECK_THAT(problem(head + "[version]\nsnapshot = 'int4'\n"), StartsWith("7: version.snapshot is 'int4'"));
  CHECK_THAT(problem(head + "[version]\nvariants = ['pruned']\n"),
             StartsWith("7: version.variants names 'pruned'"));
  CHECK_THAT(problem(head + "[limits]\nmax_distance = -1\n"), StartsWith("7: limits.max_distance is -1"));
  CHECK_THAT(problem(head + "[limits]\nexpires = 365\n"), StartsWith("7: limits.expires must be a string"));
  CHECK_THAT(problem(head + "[limits]\nexpires = '0d'\n"), StartsWith("7: limits.expires is 0d"));
  CHECK_THAT(problem("name = \n"), StartsWith("1:"));
}
