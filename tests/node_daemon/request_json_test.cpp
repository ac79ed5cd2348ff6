#include "node/daemon/request_json.h"

#include <cmath>
#include <limits>

#include "tests/catch.h"

namespace rivulet::node {
namespace {

using Floats = std::vector<float>;

TEST_CASE("the numbers of a request are read as they stand, and each wrong sample by itself", "[node][api]") {
  const auto rows = read_inputs(
      R"({"note":{"a":[1,{"b":2}]},"inputs":[[1,-2.5,1e-3],[],["x",1],3,{"inputs":[1]},[1,[2],3],[null],[1e300]]})");
  REQUIRE(rows);
  REQUIRE(rows->size() == 8);
  CHECK((*rows)[0] == Floats{1, -2.5F, 1e-3F});
  CHECK((*rows)[1] == Floats{});
  CHECK((*rows)[2].error().detail == "number 1 is no number");
  CHECK((*rows)[3].error().detail == "it is no list of numbers");
  CHECK((*rows)[4].error().detail == "it is no list of numbers");
  CHECK((*rows)[5].error().detail == "number 2 is no number");
  CHECK((*rows)[6].error().detail == "number 1 is no number");
  CHECK(std::isinf((*rows)[7]->front()));
  CHECK(read_inputs(R"({"inputs":[[1]],"inputs":[[2],[3]]})")->size() == 2);  // As most readers do: the last.
  CHECK(read_inputs(R"({"inputs":[]})")->empty());
}

TEST_CASE("samples are read with label and id, and each wrong one by itself", "[node][api]") {
  const auto samples =
      read_samples(R"({"samples":[{"inputs":[1,2],"label":"a","id":"x"},{"label":5,"inputs":[3]},
      {"inputs":[1],"label":null},{"inputs":[1],"label":0.5},{"label":"a"},{"inputs":3},{"inputs":[1],"label":[1]},
      {"inputs":[1],"id":7},{"inputs":[1],"color":{"deep":[1]}},[1],{"inputs":[true]},{"inputs":null}]})");
  REQUIRE(samples);
  REQUIRE(samples->size() == 12);
  CHECK((*samples)[0]->inputs == Floats{1, 2});
  CHECK((*samples)[0]->label == "a");
  CHECK((*samples)[0]->id == "x");
  CHECK((*samples)[1]->label == "5");
  CHECK((*samples)[1]->inputs == Floats{3});
  CHECK_FALSE((*samples)[2]->label);
  CHECK((*samples)[3]->label == "0.5");
  const char* const reasons[] = {"it is no object with \"inputs\"", "it is no list of numbers",
                                 "\"label\" has a wrong type",      "\"id\" has a wrong type",
                                 "\"color\" is not known here",     "it is no object with \"inputs\"",
                                 "number 1 is no number",           "it is no list of numbers"};
  for (std::size_t i = 0; i < std::size(reasons); ++i) {
    CAPTURE(i);
    REQUIRE_FALSE((*samples)[4 + i]);
    CHECK((*samples)[4 + i].error().detail == reasons[i]);
  }
}

TEST_CASE("a body that is no such object is refused whole", "[node][api]") {
  for (const char* body :
       {"", "{", "[]", "3", "{}", R"({"inputs":3})", R"({"inputs":{}})", R"({"inputs":null})",
        R"({"inputs":[[1]]} x)", R"({"inputs":[[1]})", R"({"other":[[1]]})", "{\"inputs\":[[1\xff]]}"}) {
    CAPTURE(body);
    const auto rows = read_inputs(body);
    REQUIRE_FALSE(rows);
    CHECK(rows.error().code == Errc::invalid);
    CHECK_FALSE(read_samples(body));
  }
}

TEST_CASE("a body that nests without end, or lists without end, is given up early", "[node][api]") {
  constexpr std::size_t many = 4'000'000;
  for (const std::string& body :
       {std::string(many, '['), "{\"inputs\":" + std::string(many, '['), "{\"a\":" + std::string(many, '['),
        "{\"inputs\":[[" + std::string(many, '[') + std::string(many, ']') + "]]}"}) {
    const auto rows = read_inputs(body);
    REQUIRE_FALSE(rows);
    CHECK(rows.error().code == Errc::invalid);
  }
  std::string wide = "{\"inputs\":[[]";
  for (std::size_t i = 1; i < samples_per_request_max; ++i) wide += ",[]";
  CHECK(read_inputs(wide + "]}")->size() == samples_per_request_max);
  CHECK(read_inputs(wide + ",[]]}").error().code == Errc::too_large);
}

}  // namespace
}  // namespace rivulet::node
