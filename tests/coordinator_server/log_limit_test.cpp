#include "coordinator/server/log_limit.h"

#include "tests/catch.h"

using rivulet::MonotonicTime;
using rivulet::coordinator::LogLimit;
using namespace std::chrono_literals;

TEST_CASE("of an event that comes all the time thirty lines are let through, then one a second",
          "[coordinator][log]") {
  LogLimit limit;
  MonotonicTime now = 1h;
  int admitted = 0;
  for (int i = 0; i < 1000; ++i) admitted += limit.admit("no_connection", now) ? 1 : 0;
  CHECK(admitted == 30);
  CHECK(limit.admit("hello_refused", now));  // Each event has lines of its own.
  for (int i = 0; i < 1000; ++i) {           // A minute and 40 s, ten times a second.
    now += 100ms;
    admitted += limit.admit("no_connection", now) ? 1 : 0;
  }
  CHECK(admitted == 30 + 100);
  now += 30s;
  admitted = 0;
  for (int i = 0; i < 1000; ++i) admitted += limit.admit("no_connection", now) ? 1 : 0;
  CHECK(admitted == 30);
}

TEST_CASE("what was left out of the log is told every ten seconds", "[coordinator][log]") {
  LogLimit limit;
  MonotonicTime now = 1h;
  for (int i = 0; i < 30; ++i) REQUIRE(limit.admit("a", now));
  CHECK_FALSE(limit.next());
  for (int i = 0; i < 7; ++i) REQUIRE_FALSE(limit.admit("a", now));
  for (int i = 0; i < 30; ++i) REQUIRE(limit.admit("b", now + 1ms));
  REQUIRE_FALSE(limit.admit("b", now + 1ms));
  REQUIRE(limit.next() == now + 10s);
  CHECK(limit.take_due(now + 10s - 1ns).empty());
  const auto first = limit.take_due(now + 10s);
  REQUIRE(first.size() == 1);
  CHECK(first[0].event == "a");
  CHECK(first[0].lines == 7);
  REQUIRE(limit.next() == now + 10s + 1ms);
  const auto second = limit.take_due(now + 11s);
  REQUIRE(second.size() == 1);
  CHECK(second[0].event == "b");
  CHECK(second[0].lines == 1);
  CHECK_FALSE(limit.next());
}
