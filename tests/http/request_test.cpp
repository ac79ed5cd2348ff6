#include "http/request.h"

#include "tests/catch.h"

using rivulet::http::Request;

TEST_CASE("a header is found in any case, and the first of two counts", "[http]") {
  Request request;
  request.headers = {{"Content-Type", "text/plain"}, {"content-type", "other"}};
  CHECK(request.header("CONTENT-TYPE") == "text/plain");
  CHECK(request.header("Accept").empty());
}

TEST_CASE("a query asks for a value by its whole name and whole value", "[http]") {
  Request request;
  request.query = "a=1&sync=true&b";
  CHECK(request.asks("sync", "true"));
  CHECK(request.asks("a", "1"));
  CHECK_FALSE(request.asks("sync", "tru"));
  CHECK_FALSE(request.asks("syn", "true"));
  CHECK_FALSE(request.asks("b", ""));
  request.query = "";
  CHECK_FALSE(request.asks("", ""));
}
