// What runs a user's network must not be able to write to files. LibTorch tells of each operator that it
// runs.
#include <ATen/record_function.h>
#include <fcntl.h>
#include <malloc.h>
#include <torch/script.h>
#include <unistd.h>

#include <fstream>

#include "cli/profiling.h"
#include "cli/student.h"
#include "cli/writes_nothing.h"
#include "models/package/release.h"
#include "models/runtime/runtime.h"
#include "tests/catch.h"
#include "tests/models_runtime/python_networks.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::cli;
using namespace rivulet::tests;

namespace {

std::size_t guarded = 0;
std::size_t unguarded = 0;

std::string victim;

/// A file that can be opened for writing can be mapped, and is written then whatever the limit on files.
std::unique_ptr<at::ObserverContext> try_to_write(const at::RecordFunction&) {
  const int file = ::open(victim.c_str(), O_RDWR);
  ++(file < 0 ? guarded : unguarded);
  if (file >= 0) ::close(file);
  return nullptr;
}

/// Counts the operators that run while it lives, by whether they could write to `victim`.
class Observation {
 public:
  Observation() : handle_(at::addGlobalCallback(at::RecordFunctionCallback(try_to_write))) {
    guarded = 0;
    unguarded = 0;
  }
  Observation(const Observation&) = delete;
  Observation& operator=(const Observation&) = delete;
  ~Observation() { at::removeCallback(handle_); }

 private:
  at::CallbackHandle handle_;
};

/// As rivulet-model has it, before any thread: what guarded ones free goes back to the system.
[[maybe_unused]] const int one_arena = ::mallopt(M_ARENA_MAX, 1);

constexpr const char* spec_text =
    "name = \"points\"\n[model]\nhidden = [4]\n[input]\nshape = [2]\n[task]\nkind = \"regression\"\n";

}  // namespace

TEST_CASE("no operator of a network runs while a byte could be written to a file", "[cli][model]") {
  use_one_thread();
  const TemporaryFolder folder;
  std::ofstream(folder.path / "spec.toml") << spec_text;
  std::ofstream(folder.path / "data.csv") << "a,b\n1,2\n3,4\n5,6\n7,8\n";
  const ModelSpec spec = load_model_spec(folder.path / "spec.toml").value();
  const PrepareOptions options{.fleet = {}, .seed = 1, .epoch = 0, .created = UtcTime{}};
  victim = (folder.path / "data.csv").string();
  const Observation observation;

  const PreparedModel model = prepare_model(spec, options).value();
  CHECK(guarded > 10);
  CHECK(unguarded == 0);

  guarded = 0;
  const Release release = decode_release(model.release).value();
  REQUIRE(export_torchscript(release, model.weights));
  CHECK(guarded > 0);
  CHECK(unguarded == 0);

  guarded = 0;
  DistillOptions distillation;
  distillation.data = folder.path / "data.csv";
  distillation.epochs = 1;
  const TeacherModel teacher{{release_id(model.release), 1}, release, model.weights};
  const auto student = make_student(spec, options, teacher, distillation);
  INFO((student ? std::string() : student.error().detail));
  REQUIRE(student);
  CHECK(guarded > 10);
  CHECK(unguarded == 0);

  std::ofstream after(folder.path / "data.csv", std::ios::app);
  after << "9,10\n" << std::flush;
  CHECK(after.good());
}

TEST_CASE("a profile is taken while nothing can be written, and has each engine's own peak", "[cli][model]") {
  use_one_thread();
  const TemporaryFolder folder;
  std::ofstream(folder.path / "spec.toml") << "name = \"points\"\n[model]\nhidden = [1024, 1024]\n[input]\n"
                                              "shape = [2]\n[task]\nkind = \"regression\"\n";
  const ModelSpec spec = load_model_spec(folder.path / "spec.toml").value();
  const PreparedModel model =
      prepare_model(spec, {.fleet = {}, .seed = 1, .epoch = 0, .created = UtcTime{}}).value();
  victim = (folder.path / "spec.toml").string();
  // What the process held before says nothing about an engine.
  {
    const std::vector<char> large(400 << 20, 1);
  }
  REQUIRE(PeakMemory::bytes() > 400 << 20);
  const Observation observation;
  const auto report = profile_prepared(model, 3, {{"fp32"}, {"int8", true}},
                                       {.warm_up = 1, .calls_min = 3, .calls_max = 3, .metered_calls = 1});
  INFO((report ? std::string() : report.error().detail));
  REQUIRE(report);
  CHECK(report->version == 3);
  CHECK(guarded > 10);
  CHECK(unguarded == 0);
  if (!PeakMemory().reset()) {
    WARN("this system does not reset a process's peak: none is reported");
    return;
  }
  std::size_t in_float = 0;
  for (const EngineProfile& one : report->engines) {
    if (!one.refusal.empty()) continue;
    CAPTURE(one.variant, one.engine);
    REQUIRE(one.peak_bytes);
    CHECK(*one.peak_bytes < 200'000'000);
    if (!one.engine.starts_with("fp32")) continue;
    CHECK(*one.peak_bytes > 3'000'000);  // The second layer alone has 4 MiB; a few freed pages serve again.
    ++in_float;
  }
  CHECK(in_float == 4);
}

TEST_CASE("under the guard LibTorch itself overwrites nothing, whatever a file does while it is loaded",
          "[cli][model]") {
  use_one_thread();
  if (python_networks().empty()) return;
  const std::string file = (python_networks() / "bad_overwriting.pt").string();
  std::string said;
  const Status ran = without_writing([&]() -> Status {
    try {
      torch::jit::load(file);
    } catch (const std::exception& error) {
      said = error.what();
    }
    return {};
  });
  CHECK(ran.has_value());
  CHECK(said.find("Operation not permitted") != std::string::npos);
  CHECK(victim_is_whole());
}

TEST_CASE("a teacher whose nodes measure their own statistics answers by those of the data", "[cli][model]") {
  use_one_thread();
  const TemporaryFolder folder;
  const auto read = [&](const std::string& model) {
    std::ofstream(folder.path / "spec.toml")
        << "name = \"points\"\n[model]\n"
        << model << "[input]\nshape = [1, 2, 2]\n[task]\nclasses = [\"a\", \"b\"]\n";
    return load_model_spec(folder.path / "spec.toml").value();
  };
  std::ofstream data(folder.path / "data.csv");
  data << "a,b,c,d\n";
  for (int i = 0; i < 40; ++i) data << i % 7 << ',' << i % 5 << ',' << i % 3 << ',' << -i % 11 << '\n';
  data.close();
  const PrepareOptions options{.fleet = {}, .seed = 1, .epoch = 0, .created = UtcTime{}};
  const PreparedModel model =
      prepare_model(
          read("architecture = \"mobilenet_v2\"\nwidth = 0.1\nresolution = 0\nbatch_norm = \"local\"\n"),
          options)
          .value();
  TeacherModel teacher{{release_id(model.release), 1}, decode_release(model.release).value(), model.weights};
  DistillOptions distillation;
  distillation.data = folder.path / "data.csv";
  distillation.epochs = 1;
  const ModelSpec student_spec = read("hidden = [4]\n");
  const auto taught = make_student(student_spec, options, teacher, distillation);
  INFO((taught ? std::string() : taught.error().detail));
  REQUIRE(taught);
  // What stands in the place of statistics says nothing.
  std::size_t at = 0;
  for (const TensorSpec& tensor : teacher.release.layout.tensors) {
    for (std::size_t i = 0; i < tensor.size(); ++i, ++at) {
      if (tensor.kind == TensorKind::statistic) teacher.weights[at] = 7.0F;
    }
  }
  const auto again = make_student(student_spec, options, teacher, distillation);
  REQUIRE(again);
  CHECK(again->model.weights == taught->model.weights);
  CHECK(again->report.student == taught->report.student);
  // Where they travel, they count.
  teacher.release.batch_norm = BatchNorm::averaged;
  CHECK(make_student(student_spec, options, teacher, distillation)->model.weights != taught->model.weights);
}

TEST_CASE("a network that writes while it is loaded overwrites nothing", "[cli][model]") {
  use_one_thread();
  if (python_networks().empty()) return;
  const std::string name = GENERATE("overwriting", "long_name", "other_case");
  CAPTURE(name);
  const TemporaryFolder folder;
  std::ofstream(folder.path / "spec.toml")
      << "name = \"images\"\n[model]\narchitecture = \"torchscript\"\npath = \""
      << (python_networks() / ("bad_" + name + ".pt")).string()
      << "\"\n[input]\nshape = [1, 12, 12]\n[task]\nclasses = [\"0\", \"1\", \"2\", \"3\", \"4\"]\n";
  const ModelSpec spec = load_model_spec(folder.path / "spec.toml").value();
  const auto model = prepare_model(spec, {.fleet = {}, .seed = 1, .epoch = 0, .created = UtcTime{}});
  CHECK(victim_is_whole());
  REQUIRE_FALSE(model);
  CHECK(model.error().code == Errc::refused);
}
