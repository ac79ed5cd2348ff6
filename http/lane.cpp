#include "http/lane.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <memory>
#include <utility>

#include "http/session.h"

namespace rivulet::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

/// With one core there is none to keep awake.
std::chrono::microseconds poll_time(const Limits& limits) {
  return std::thread::hardware_concurrency() > 1 ? limits.busy_poll_max : std::chrono::microseconds(0);
}

/// The turn to poll, if no other lane has it.
class PollTurn {
 public:
  explicit PollTurn(std::atomic<bool>& is_polled)
      : is_polled_(is_polled), is_ours_(!is_polled.exchange(true)) {}
  ~PollTurn() {
    if (is_ours_) is_polled_ = false;
  }
  PollTurn(const PollTurn&) = delete;
  PollTurn& operator=(const PollTurn&) = delete;
  explicit operator bool() const { return is_ours_; }

 private:
  std::atomic<bool>& is_polled_;
  const bool is_ours_;
};

template <typename Answer, typename Work>
Answer guarded(const Service& service, Work work) {
  try {
    return work();
  } catch (...) {
    return service.explain(500, "the request could not be handled");
  }
}

}  // namespace

Shared::Shared(const Limits& limits_of_server, Service service_of_server)
    : limits(limits_of_server),
      service(std::move(service_of_server)),
      room(std::max(limits.bodies_bytes_max, limits.body_bytes_max)) {}

Lane::Lane(Shared& shared) : shared_(shared), poll_(poll_time(shared.limits)) {
  watch();
  thread_ = std::thread([this] { run(); });
}

Lane::~Lane() {
  stop();
  thread_.join();
}

/// What throws, for want of memory for example, costs the connection that it was for.
void Lane::run() {
  while (true) {
    try {
      while (poll() || io_.run_one() > 0) {
      }
      return;
    } catch (...) {
      is_busy_ = false;
    }
  }
}

/// @return whether something came and was handled; false without delay where it is better to sleep.
bool Lane::poll() {
  const auto until = poll_.until();
  if (!until || Clock::now() >= *until) return false;
  const PollTurn turn(shared_.is_polled);
  if (!turn) return false;
  while (io_.poll_one() == 0) {
    if (io_.stopped() || Clock::now() >= *until) return false;
    std::this_thread::yield();
  }
  return true;
}

std::optional<Response> Lane::refuse(const Request& head) {
  return guarded<std::optional<Response>>(shared_.service, [&] { return shared_.service.refuse(head); });
}

Response Lane::answer(const Request& request) {
  is_busy_ = true;
  Response response = guarded<Response>(shared_.service, [&] { return shared_.service.answer(request); });
  is_busy_ = false;
  return response;
}

void Lane::take(tcp::socket&& socket, const tcp& protocol) {
  ++count_;
  // It waits on this lane's reactor from now on.
  asio::post(io_, [this, protocol, handle = socket.release()] { admit(protocol, handle); });
}

void Lane::admit(const tcp& protocol, tcp::socket::native_handle_type handle) {
  std::shared_ptr<Session> session;
  try {
    session = std::make_shared<Session>(tcp::socket(io_, protocol, handle), *this);
  } catch (...) {
    --count_;
    throw;
  }
  session->read_head();
}

void Lane::leave(std::list<Session*>::iterator place) {
  sessions_.erase(place);
  --count_;
  end_if_empty();
}

void Lane::stop() {
  asio::post(io_, [this] {
    is_stopping_ = true;
    const auto end = Clock::now() + shared_.limits.end_time_max;
    for (Session* session : sessions_) session->end_soon(end);
    end_if_empty();
  });
}

void Lane::end_if_empty() {
  if (!is_stopping_ || !sessions_.empty()) return;
  watch_.cancel();
  work_.reset();
}

void Lane::watch() {
  const Limits& limits = shared_.limits;
  const auto shortest = std::min({limits.idle_max, limits.body_time_max, limits.answer_time_max});
  watch_.expires_after(std::clamp<std::chrono::milliseconds>(shortest / 8, std::chrono::milliseconds(10),
                                                             std::chrono::seconds(1)));
  watch_.async_wait([this](boost::system::error_code ended) {
    if (ended || (is_stopping_ && sessions_.empty())) return;
    const auto now = Clock::now();
    for (Session* session : sessions_) session->end_if_late(now);
    watch();
  });
}

}  // namespace rivulet::http
