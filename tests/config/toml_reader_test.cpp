#include <fstream>

#include "config/toml_reader.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace std::chrono_literals;

namespace {

TomlReader reader(std::string_view text) {
  auto parsed = TomlReader::parse(text, "/etc/fleet/node.toml");
  REQUIRE(parsed.has_value());
  return *parsed;
}

std::string problem(const TomlReader& toml) {
  const Status status = toml.finish();
  if (status) return "none";
  CHECK(status.error().code == Errc::invalid);
  return status.error().detail;
}

}  // namespace

TEST_CASE("values of each type are read, and absent ones have their defaults", "[config]") {
  auto toml = reader(R"(
    seed = 7
    rate = 1
    name = "pump \u00e9"
    on = true
    wait = "15m"
    file = "data/a.csv"
    rooted = "/srv/b.csv"
    hidden = [200, 100]
    scale = [1, 0.5]
    classes = ["a", "b"]
    kind = "int8"
    [round]
    cohort = 10
    [[stage]]
    share = 0.05
    [[stage]]
    share = 1.0
  )");
  CHECK(toml.integer("seed", 1) == 7);
  CHECK(toml.number("rate", 0.5) == 1.0);
  CHECK(toml.text("name", "") == "pump \xc3\xa9");
  CHECK(toml.flag("on", false));
  CHECK(toml.duration("wait", 1s) == 900s);
  CHECK(toml.path("file", "") == "/etc/fleet/data/a.csv");
  CHECK(toml.path("rooted", "") == "/srv/b.csv");
  CHECK(toml.path("none", "").empty());
  CHECK(toml.integers("hidden", {}) == std::vector<std::int64_t>{200, 100});
  CHECK(toml.numbers("scale", {}) == std::vector<double>{1.0, 0.5});
  CHECK(toml.texts("classes", {}) == std::vector<std::string>{"a", "b"});
  CHECK(toml.choice("kind", "fp32", {"fp32", "int8"}) == "int8");
  CHECK(toml.table("round").integer("cohort", 5) == 10);
  auto absent = toml.table("training");
  CHECK(absent.integer("epochs", 3) == 3);
  CHECK_FALSE(absent.has("epochs"));
  CHECK(absent.texts("layers", {"all"}) == std::vector<std::string>{"all"});
  auto stages = toml.tables("stage");
  REQUIRE(stages.size() == 2);
  CHECK(stages[0].number("share", 0.0) == 0.05);
  CHECK(stages[1].number("share", 0.0) == 1.0);
  CHECK(toml.finish().has_value());
}

TEST_CASE("a key that nobody asked for is an error with its line", "[config]") {
  auto toml = reader("seed = 1\n[round]\ncount = 2\nchort = 3\n");
  std::ignore = toml.integer("seed", 1);
  auto round = toml.table("round");
  std::ignore = round.integer("count", 1);
  std::ignore = round.integer("cohort", 1);
  CHECK(
      problem(toml) ==
      "/etc/fleet/node.toml:4: round.chort is not a key that is known here: check its spelling and section");
}

TEST_CASE("a section that nobody asked for is an error too", "[config]") {
  auto toml = reader("[ruond]\ncount = 2\n");
  std::ignore = toml.table("round").integer("count", 1);
  CHECK(problem(toml).find("node.toml:1: ruond is not a key") != std::string::npos);
}

TEST_CASE("a wrong type names what was wanted and what was found", "[config]") {
  const auto check = [](std::string_view text, auto read, const std::string& expected) {
    auto toml = reader(text);
    read(toml);
    CHECK(problem(toml) == "/etc/fleet/node.toml:1: " + expected);
  };
  check("a = 1.5", [](TomlReader& t) { CHECK(t.integer("a", 4) == 4); }, "a must be an integer, not a float");
  check("a = \"1\"", [](TomlReader& t) { CHECK(t.number("a", 4) == 4); }, "a must be a number, not a string");
  check("a = 1", [](TomlReader& t) { t.text("a", ""); }, "a must be a string, not an integer");
  check("a = 1", [](TomlReader& t) { t.flag("a", true); }, "a must be true or false, not an integer");
  check("a = 1", [](TomlReader& t) { t.table("a").integer("b", 1); }, "a must be a table, not an integer");
  check(
      "a = [1, 2.5]", [](TomlReader& t) { t.integers("a", {}); },
      "a must be an array of integers; its element 2 is a float");
  check(
      "a = {b = 2026-01-01}", [](TomlReader& t) { t.table("a").text("b", ""); },
      "a.b must be a string, not a date or time");
  check("a = [1]", [](TomlReader& t) { t.tables("a"); }, "a must be an array of tables, not an integer");
}

TEST_CASE("a value outside its bounds says which they are", "[config]") {
  const auto check = [](std::string_view text, auto read, const std::string& expected) {
    auto toml = reader(text);
    read(toml);
    CHECK(problem(toml) == "/etc/fleet/node.toml:1: " + expected);
  };
  check("a = -1", [](TomlReader& t) { t.integer("a", 4); }, "a is -1; it must be at least 0");
  check("a = 9", [](TomlReader& t) { t.integer("a", 4, 1, 8); }, "a is 9; it must be from 1 to 8");
  check("a = 1.5", [](TomlReader& t) { t.number("a", 0.1, 0.0, 1.0); }, "a is 1.5; it must be from 0 to 1");
  check("a = nan", [](TomlReader& t) { t.number("a", 0.1); }, "a must be a finite number");
  check(
      "a = [1, 0]", [](TomlReader& t) { t.integers("a", {}, 1); },
      "a has an element that is 0; it must be at least 1");
  check(
      "a = \"x\"", [](TomlReader& t) { t.choice("a", "y", {"y", "z"}); },
      "a is 'x'; it must be one of: y, z");
  check("a = \"5s\"", [](TomlReader& t) { t.duration("a", 1h, 1min); }, "a is 5s; it must be at least 60s");
  check(
      "a = \"5 s\"", [](TomlReader& t) { t.duration("a", 1h); },
      "a is wrong: '5 s' is not a duration like 90s, 15m, 12h or 30d");
}

TEST_CASE("an unknown key is reported before a missing one, as it is often the same key misspelt",
          "[config]") {
  auto toml = reader("nmae = \"x\"\n");
  CHECK_FALSE(toml.require("name"));
  std::ignore = toml.text("name", "");
  CHECK(problem(toml).find("nmae is not a key") != std::string::npos);
  auto empty = reader("");
  auto section = empty.table("model");
  CHECK_FALSE(section.require("name"));
  CHECK(problem(empty) == "/etc/fleet/node.toml: model.name is missing");
}

TEST_CASE("text that is not TOML is refused with its line", "[config]") {
  const auto parsed = TomlReader::parse("a = 1\nb = = 2\n", "x.toml");
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == Errc::invalid);
  CHECK(parsed.error().detail.substr(0, 9) == "x.toml:2:");
  CHECK_FALSE(TomlReader::parse("a = 1\na = 2\n", "x.toml"));
}

TEST_CASE("a value can be set from outside, as text where it is not TOML", "[config]") {
  auto toml = reader("[round]\ncount = 2\n");
  REQUIRE(toml.set("round.count", "50"));
  REQUIRE(toml.set("delta.codec", "int8"));
  REQUIRE(toml.set("model.hidden", "[64, 32]"));
  REQUIRE(toml.set("seed", "3"));
  CHECK_FALSE(toml.set("seed.x", "3"));
  CHECK_FALSE(toml.set("round.", "3"));
  CHECK_FALSE(toml.set(".count", "3"));
  CHECK(toml.table("round").integer("count", 1) == 50);
  CHECK(toml.table("delta").text("codec", "") == "int8");
  CHECK(toml.table("model").integers("hidden", {}) == std::vector<std::int64_t>{64, 32});
  CHECK(toml.integer("seed", 1) == 3);
  CHECK(toml.finish().has_value());
}

TEST_CASE("a file that is absent, a folder or too large is refused", "[config]") {
  TemporaryFolder folder;
  CHECK(TomlReader::read_file(folder.path / "none.toml").error().code == Errc::not_found);
  CHECK(TomlReader::read_file(folder.path).error().code == Errc::storage);
  std::ofstream(folder.path / "large.toml") << std::string((1 << 20) + 1, '#');
  CHECK(TomlReader::read_file(folder.path / "large.toml").error().code == Errc::too_large);
  std::ofstream(folder.path / "empty.toml").close();
  CHECK(TomlReader::read_file(folder.path / "empty.toml").has_value());
}
