#include "http/busy_poll.h"

#include "tests/catch.h"

namespace rivulet::http {
namespace {

using std::chrono::microseconds;

const BusyPoll::Time start{std::chrono::seconds(100)};

BusyPoll::Time at(int us) { return start + microseconds(us); }

TEST_CASE("behind an answer it polls as long as allowed, once a request came as soon as that", "[http]") {
  BusyPoll poll{microseconds(200)};
  CHECK_FALSE(poll.until());
  poll.on_request(at(0));
  poll.on_answer(at(10));
  CHECK_FALSE(poll.until());  // Nothing shows yet how soon the next one comes.
  poll.on_request(at(210));
  CHECK_FALSE(poll.until());  // It is answered first.
  poll.on_answer(at(300));
  CHECK(poll.until() == at(500));
}

TEST_CASE("it sleeps again once a request came late, until one comes soon", "[http]") {
  BusyPoll poll{microseconds(200)};
  poll.on_answer(at(0));
  poll.on_request(at(100));
  poll.on_answer(at(1000));
  REQUIRE(poll.until() == at(1200));
  poll.on_request(at(1201));
  poll.on_answer(at(1300));
  CHECK_FALSE(poll.until());
  poll.on_request(at(1350));
  poll.on_answer(at(1400));
  CHECK(poll.until() == at(1600));
}

TEST_CASE("requests side by side: one behind no answer says nothing", "[http]") {
  BusyPoll poll{microseconds(200)};
  poll.on_answer(at(0));
  poll.on_request(at(100));
  poll.on_request(at(5000));
  poll.on_answer(at(5100));
  CHECK(poll.until() == at(5300));
}

TEST_CASE("where no time is allowed it never polls beyond the answer", "[http]") {
  BusyPoll poll{microseconds(0)};
  poll.on_answer(at(0));
  poll.on_request(at(0));
  poll.on_answer(at(10));
  CHECK(poll.until() == at(10));
  poll.on_request(at(11));
  poll.on_answer(at(20));
  CHECK_FALSE(poll.until());
}

}  // namespace
}  // namespace rivulet::http
