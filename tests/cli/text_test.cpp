#include "cli/text.h"

#include <nlohmann/json.hpp>

#include "cli/admin_client.h"
#include "tests/catch.h"

using namespace rivulet;
using namespace rivulet::cli;

TEST_CASE("a table's columns are as wide as their widest cell, counted in characters", "[cli][text]") {
  TextTable table({"KEY", "STATE", "TAGS"});
  table.add({"ab", "active", "süd"});
  table.add({"abcdef", "ok", "-"});
  CHECK(table.text() ==
        "KEY     STATE   TAGS\n"
        "ab      active  süd\n"
        "abcdef  ok      -\n");
}

TEST_CASE("what a stranger named cannot steer the terminal", "[cli][text]") {
  TextTable table({"TAG"});
  table.add({"a\x1b[2Jb\nc\x7f"});
  CHECK(table.text() == "TAG\na?[2Jb?c?\n");
  CHECK(fields_text({{"reason", "x\ry"}}) == "reason:  x?y\n");
}

TEST_CASE("a release that has expired says so", "[cli][text]") {
  nlohmann::json release = {{"name", "digits"},
                            {"id", "0123456789abcdef0123"},
                            {"expires", "2026-11-22T10:00:00.000Z"},
                            {"expired", false}};
  CHECK(release_text(release) == "digits 0123456789abcdef (expires 2026-11-22 10:00:00)");
  release["expired"] = true;
  CHECK(release_text(release) == "digits 0123456789abcdef (EXPIRED 2026-11-22 10:00:00)");
  CHECK(release_text(nullptr).starts_with("none"));
}

TEST_CASE("it is told how a variant runs, and what of it stays in float", "[cli][text]") {
  nlohmann::json int8 = {{"name", "int8"}, {"kernels", "int8"}};
  CHECK(kernels_text({{"name", "fp32"}}) == "float");
  CHECK(kernels_text({{"name", "int8"}, {"kernels", "own"}}) == "own");
  CHECK(kernels_text(int8) == "int8");  // Of an older coordinator.
  int8["int8_form"] = "dynamic";
  CHECK(kernels_text(int8) == "dynamic");
  int8["int8_form"] = "static";
  int8["left_in_float"] = nlohmann::json::array();
  CHECK(kernels_text(int8) == "static");
  CHECK(float_notes({{"variants", {int8}}}).empty());
  int8["left_in_float"] = {"head.norm"};
  CHECK(kernels_text(int8) == "static, 1 module in float");
  int8["left_in_float"] = {"", "head.\x1b[2Jnorm"};
  CHECK(kernels_text(int8) == "static, 2 modules in float");
  CHECK(float_notes({{"variants", {int8}}, {"not_published", nlohmann::json::array()}}) ==
        "left in float by int8: the network's own operations, head.?[2Jnorm\n");
  CHECK(float_notes({{"variants", nlohmann::json::array()}, {"not_published", {"int8 kernels"}}}) ==
        "not published: int8 kernels (left_out of version_published in 'rivulet audit' says why)\n");
}

TEST_CASE("sizes, fractions and times are short", "[cli][text]") {
  CHECK(size_text(0) == "0 B");
  CHECK(size_text(999) == "999 B");
  CHECK(size_text(1000) == "1.0 kB");
  CHECK(size_text(999'949) == "999.9 kB");
  CHECK(size_text(999'951) == "1.0 MB");
  CHECK(size_text(1'700'000'000) == "1.7 GB");
  CHECK(fraction_text(nullptr) == "-");
  CHECK(fraction_text(0.93456) == "0.9346");
  CHECK(time_text("2026-11-22T10:00:00.000Z") == "2026-11-22 10:00:00");
  CHECK(time_text("1970-01-01T00:00:00.000Z") == "-");
}

TEST_CASE("an admin address may be a URL", "[cli]") {
  CHECK(parse_admin_address("http://127.0.0.1:7480/") == Endpoint{"127.0.0.1", 7480});
  CHECK(parse_admin_address("[::1]:7480") == Endpoint{"::1", 7480});
  CHECK_FALSE(parse_admin_address("https://127.0.0.1:7480"));
  CHECK_FALSE(parse_admin_address("http://127.0.0.1:7480/admin"));
  CHECK_FALSE(parse_admin_address(""));
}
