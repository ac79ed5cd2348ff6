#include "protocol/endpoint.h"

#include "tests/catch.h"

namespace rivulet {
namespace {

TEST_CASE("an endpoint is a host and a port, with brackets around IPv6", "[transport][endpoint]") {
  struct Row {
    const char* text;
    Endpoint endpoint;
  };
  const Row rows[] = {
      {"127.0.0.1:7443", {"127.0.0.1", 7443}},
      {"coordinator.example-1.org:443", {"coordinator.example-1.org", 443}},
      {"my_host:0", {"my_host", 0}},
      {"[::1]:65535", {"::1", 65535}},
      {"[fe80::1%eth0]:80", {"fe80::1%eth0", 80}},
      {"[::ffff:10.0.0.1]:80", {"::ffff:10.0.0.1", 80}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto parsed = parse_endpoint(row.text);
    REQUIRE(parsed.has_value());
    CHECK(*parsed == row.endpoint);
    CHECK(to_string(*parsed) == row.text);
  }
}

TEST_CASE("a wrong endpoint is refused with its reason", "[transport][endpoint]") {
  struct Row {
    std::string text;
    const char* reason;
  };
  const Row rows[] = {
      {"", "port is missing"},         {"host", "port is missing"},
      {"host:", "no number"},          {":80", "host is missing"},
      {"host:65536", "no number"},     {"host:-1", "no number"},
      {"host:+1", "no number"},        {"host: 1", "no number"},
      {"host:1x", "no number"},        {"::1:80", "needs brackets"},
      {"[::1:80", "not closed"},       {"[::1]80", "port is missing"},
      {"[::1]", "port is missing"},    {"[]:80", "host is missing"},
      {"[host]:80", "no IPv6"},        {"[::1%]:80", "no IPv6"},
      {"ho st:80", "a character"},     {"http://host:80", "needs brackets"},
      {"host/path:80", "a character"}, {std::string(254, 'a') + ":80", "253"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto parsed = parse_endpoint(row.text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().code == Errc::invalid);
    CHECK(parsed.error().detail.find(row.reason) != std::string::npos);
    CHECK(parsed.error().detail.find('\n') == std::string::npos);
  }
}

}  // namespace
}  // namespace rivulet
