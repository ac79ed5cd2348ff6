// What runs a user's network must not be able to write to files. LibTorch tells of each operator that it
// runs.
#include <ATen/record_function.h>
#include <sys/resource.h>

#include <fstream>

#include "cli/student.h"
#include "models/package/release.h"
#include "models/runtime/runtime.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::cli;

namespace {

std::size_t guarded = 0;
std::size_t unguarded = 0;

std::unique_ptr<at::ObserverContext> count_operator(const at::RecordFunction&) {
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  ++(limit.rlim_cur == 0 ? guarded : unguarded);
  return nullptr;
}

/// Counts the operators that run while it lives.
class Observation {
 public:
  Observation() : handle_(at::addGlobalCallback(at::RecordFunctionCallback(count_operator))) {
    guarded = 0;
    unguarded = 0;
  }
  Observation(const Observation&) = delete;
  Observation& operator=(const Observation&) = delete;
  ~Observation() { at::removeCallback(handle_); }

 private:
  at::CallbackHandle handle_;
};

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

  rlimit after{};
  ::getrlimit(RLIMIT_FSIZE, &after);
  CHECK(after.rlim_cur > 0);
}
