#include "link/connection.h"

#include <asio/experimental/as_tuple.hpp>
#include <asio/use_awaitable.hpp>
#include <cstdio>

#include "link/system_clock.h"
#include "protocol/transport/deadline.h"

namespace rivulet {
namespace {

using std::chrono_literals::operator""ms;

/// What was queued before the end, such as a refusal, gets this long to leave.
constexpr auto flush_patience = 2000ms;

/// A peer that asks and does not read the answers is not heard while more than this waits for it.
constexpr std::size_t queued_bytes_max = 1 << 20;

constexpr auto quietly = asio::experimental::as_tuple(asio::use_awaitable);

}  // namespace

Connection::Connection(std::unique_ptr<FrameStream> stream, core::Role role, const Limits& limits,
                       core::CreditPool& credit, BlobStore& blobs, VerifiedParts& parts, ConnectionUser& user)
    : stream_(std::move(stream)),
      user_(user),
      host_(role, limits, credit, blobs, parts, *this, system_now()),
      written_(stream_->executor(), asio::steady_timer::time_point::max()),
      may_read_(stream_->executor(), asio::steady_timer::time_point::max()),
      wake_(stream_->executor()),
      ended_(stream_->executor(), asio::steady_timer::time_point::max()),
      tasks_(stream_->executor(), [](std::string_view what) {
        std::fprintf(stderr, "bug in a connection: %.*s\n", static_cast<int>(what.size()), what.data());
      }) {}

Connection::~Connection() = default;

asio::awaitable<void> Connection::run() {
  tasks_.spawn(read_all());
  tasks_.spawn(write_all());
  tasks_.spawn(watch_time());
  if (!finished_) std::ignore = co_await ended_.async_wait(quietly);
  if (!finished_) close(Reason::shutting_down, "shutting down");  // Our own task was told to stop.
  if (!frames_.empty()) {
    ended_.expires_after(flush_patience);
    std::ignore = co_await ended_.async_wait(quietly);
  }
  co_await tasks_.close();
  co_await stream_->close();
}

asio::awaitable<void> Connection::read_all() {
  while (!finished_) {
    if (being_judged_ || queued_bytes_ > queued_bytes_max) {
      if (co_await is_cancelled()) co_return;
      std::ignore = co_await may_read_.async_wait(quietly);
      continue;
    }
    auto frame = co_await stream_->read_frame(host_.frame_bytes_max());
    if (finished_) co_return;
    if (!frame) {
      if (frame.error().code == Errc::cancelled) co_return;
      if (frame.error().code == Errc::too_large) {
        host_.close(Reason::frame_too_large, frame.error().detail, system_now());
      } else if (frame.error().code == Errc::corrupt) {
        host_.close(Reason::malformed_frame, frame.error().detail, system_now());
      } else if (frame.error().code == Errc::timeout) {
        host_.close(host_.open() ? Reason::too_slow : Reason::handshake_timeout, frame.error().detail,
                    system_now());
      } else {
        host_.close(Reason::none, frame.error().detail, system_now());
      }
      co_return;
    }
    host_.on_frame(*frame, system_now());
    rearm();
  }
}

asio::awaitable<void> Connection::write_all() {
  while (true) {
    while (frames_.empty()) {
      if (co_await is_cancelled()) co_return;
      std::ignore = co_await written_.async_wait(quietly);
      if (finished_ && frames_.empty()) co_return;
    }
    Bytes frame = std::move(frames_.front());
    const ByteSpan body(frame);
    const auto status = co_await stream_->write_frame(body);
    if (!status) {
      const bool slow = status.error().code == Errc::timeout;
      if (!finished_)
        host_.close(slow ? Reason::too_slow : Reason::none, status.error().detail, system_now());
      frames_.clear();
      ended_.cancel();
      co_return;
    }
    frames_.pop_front();
    queued_bytes_ -= frame.size();
    may_read_.cancel();
    if (frames_.empty() && finished_) {
      ended_.cancel();
      co_return;
    }
    if (frames_.empty()) {
      host_.on_writable(system_now());
      rearm();
    }
  }
}

asio::awaitable<void> Connection::watch_time() {
  while (!finished_) {
    const MonotonicTime next = host_.next_deadline();
    wake_.expires_at(
        asio::steady_timer::time_point(std::chrono::duration_cast<asio::steady_timer::duration>(next)));
    std::ignore = co_await wake_.async_wait(quietly);
    if (finished_ || co_await is_cancelled()) co_return;
    host_.on_time(system_now());
  }
}

void Connection::rearm() {
  if (finished_) return;
  const auto next = std::chrono::duration_cast<asio::steady_timer::duration>(host_.next_deadline());
  // A later deadline needs nothing: the timer fires early once and is set anew.
  if (next < wake_.expiry().time_since_epoch()) wake_.cancel();
}

void Connection::send(Message message) {
  host_.send(std::move(message), system_now());
  if (being_judged_ && host_.open()) {
    being_judged_ = false;
    may_read_.cancel();
  }
  rearm();
}

void Connection::fetch(const ContentId& content, std::uint64_t bytes_max) {
  host_.fetch(content, bytes_max, system_now());
  rearm();
}

void Connection::stop_fetch(const ContentId& content) {
  host_.stop_fetch(content, system_now());
  rearm();
}

void Connection::close(Reason reason, std::string detail) {
  host_.close(reason, std::move(detail), system_now());
}

void Connection::write_frame(Bytes frame) {
  if (finished_) return;
  queued_bytes_ += frame.size();
  frames_.push_back(std::move(frame));
  written_.cancel();
}

void Connection::deliver(Message message) {
  being_judged_ =
      std::holds_alternative<message::Hello>(message) || std::holds_alternative<message::Enrol>(message);
  user_.deliver(*this, std::move(message));
}

void Connection::finish_fetch(const ContentId& content) { user_.finish_fetch(*this, content); }

void Connection::fetch_failed(const ContentId& content, Error error) {
  user_.fetch_failed(*this, content, std::move(error));
}

void Connection::closed(Reason reason, const std::string& detail) {
  finished_ = true;
  end_ = {reason, detail};
  written_.cancel();
  may_read_.cancel();
  wake_.cancel();
  ended_.cancel();
}

}  // namespace rivulet
