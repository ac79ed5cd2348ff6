#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/distillation.h"
#include "cli/prepared_model.h"
#include "models/package/release.h"
#include "tests/catch.h"
#include "tests/cli/programs.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::cli;
using namespace rivulet::tests;

namespace {

const std::string fleet = "00112233445566778899aabbccddeeff";

/// Points (x, y, x + y, x - y), with a last column of x + 2 y, or without.
void write_points(const std::filesystem::path& file, bool labelled) {
  std::string text = labelled ? "a,b,c,d,value\n" : "a,b,c,d\n";
  for (int i = 0; i < 200; ++i) {
    const int x = i % 20 - 10;
    const int y = i / 20 - 5;
    for (const int value : {x, y, x + y, x - y}) text += std::to_string(value) + ",";
    text.pop_back();
    text += labelled ? "," + std::to_string(x + 2 * y) + "\n" : "\n";
  }
  tests::write(file, text);
}

std::string spec_of(const std::string& model, const std::string& task) {
  return "name = \"points\"\n[model]\n" + model + "\n[input]\nshape = [4]\nscale = [10.0]\n[task]\n" + task;
}

/// Teacher and student in folders of their own.
struct Classroom {
  TemporaryFolder folder;
  std::filesystem::path teacher = folder.path / "teacher";
  std::filesystem::path student = folder.path / "student";
  std::filesystem::path data = folder.path / "data.csv";

  Classroom() {
    std::filesystem::create_directory(teacher);
    std::filesystem::create_directory(student);
  }

  void prepare_teacher(const std::string& spec) const {
    tests::write(teacher / "spec.toml", spec);
    const Outcome outcome = run(program("rivulet-model"), {"prepare", (teacher / "spec.toml").string(),
                                                           "--out", teacher.string(), "--fleet", fleet});
    INFO(outcome.err);
    REQUIRE(outcome.status == 0);
  }

  [[nodiscard]] Outcome distil(const std::string& spec, std::vector<std::string> more = {}) const {
    tests::write(student / "spec.toml", spec);
    std::vector<std::string> arguments = {"distill",
                                          (student / "spec.toml").string(),
                                          "--out",
                                          student.string(),
                                          "--fleet",
                                          fleet,
                                          "--teacher",
                                          teacher.string(),
                                          "--teacher-version",
                                          "6",
                                          "--data",
                                          data.string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(program("rivulet-model"), arguments);
  }
};

}  // namespace

TEST_CASE("an autoencoder learns of a larger one how it rebuilds", "[cli][model]") {
  const Classroom room;
  write_points(room.data, false);
  const std::string task = "kind = \"anomaly\"\n";
  room.prepare_teacher(spec_of("architecture = \"autoencoder\"\nhidden = [12, 2]", task));
  const std::string spec = spec_of("architecture = \"autoencoder\"\nhidden = [5, 2]", task);
  const Outcome outcome = room.distil(spec, {"--epochs", "20", "--soft-weight", "1"});
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  const DistillationReport report = read_report(room.student).value();
  CHECK(report.measure == "error");
  CHECK(report.samples == 180);
  CHECK(report.held_out == 20);
  CHECK(report.teacher_parameters == 12 * 5 + 2 * 13 + 12 * 3 + 4 * 13);
  CHECK(report.student_parameters == 5 * 5 + 2 * 6 + 5 * 3 + 4 * 6);

  const PreparedModel model = read_prepared(room.student).value();
  const auto read = load_model_spec(room.student / "spec.toml");
  const Teacher link{release_id(read_prepared(room.teacher)->release), 6};
  const auto id = *FleetId::from_hex(fleet);
  CHECK(check_prepared(model, *read, id, 0, link).has_value());
  CHECK_FALSE(check_prepared(model, *read, id, 0).has_value());
  CHECK_FALSE(check_prepared(model, *read, id, 0, Teacher{link.release, 5}).has_value());

  // The same again gives the same, another seed another student.
  REQUIRE(room.distil(spec, {"--epochs", "20", "--soft-weight", "1"}).status == 0);
  CHECK(read_prepared(room.student)->weights == model.weights);
  REQUIRE(room.distil(spec, {"--epochs", "20", "--soft-weight", "1", "--seed", "2"}).status == 0);
  CHECK(read_prepared(room.student)->weights != model.weights);

  const Outcome scaled = room.distil(spec + "[version]\nsnapshot = \"fp32\"\n");
  CHECK(scaled.status == 0);
  std::string other = spec;
  other.replace(other.find("10.0"), 4, "20.0");
  const Outcome refused = room.distil(other);
  CHECK(refused.status == 2);
  CHECK(refused.err.find("input.mean and input.scale") != std::string::npos);
}

TEST_CASE("a regression learns its teacher's values, and with them the measured ones", "[cli][model]") {
  const Classroom room;
  const std::string task = "kind = \"regression\"\n";
  room.prepare_teacher(spec_of("hidden = [16]", task));
  const std::string spec = spec_of("hidden = [6]", task);
  const std::vector<std::string> more = {"--epochs", "60", "--learning-rate", "0.01"};

  write_points(room.data, false);
  Outcome outcome = room.distil(spec, more);
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  DistillationReport report = read_report(room.student).value();
  CHECK(report.measure == "error");
  CHECK(report.teacher == 0);  // Its own values are what the student is measured by.
  CHECK_FALSE(report.ratio().has_value());
  CHECK(report.student < 0.01);

  write_points(room.data, true);
  outcome = room.distil(
      spec, {"--epochs", "60", "--learning-rate", "0.01", "--label", "value", "--soft-weight", "0"});
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  report = read_report(room.student).value();
  // The teacher knows nothing yet of x + 2 y, whose mean square is 68; the student was told.
  CHECK(report.teacher > 20);
  CHECK(report.student < 0.2 * report.teacher);

  const Outcome columns = room.distil(spec, more);
  CHECK(columns.status == 2);
  CHECK(is_one_line(columns.err, "rivulet-model"));
  CHECK(columns.err.find("have 5 numbers, but the model's have 4: name the column of the labels") !=
        std::string::npos);
}
