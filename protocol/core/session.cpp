#include "protocol/core/session.h"

#include <algorithm>
#include <utility>

namespace rivulet::core {
namespace {

/// Between two looks for credit that other sessions may have given back.
constexpr std::chrono::milliseconds credit_interval{50};

template <typename T, typename... Kinds>
constexpr bool is_one_of = (std::is_same_v<T, Kinds> || ...);

/// What a peer may say before it is welcome. All else would let strangers into the logic behind.
bool is_greeting(const Message& message, Role receiver) {
  return std::visit(
      [&]<typename T>(const T&) {
        if (receiver == Role::coordinator) {
          return is_one_of<T, message::TrustRequest, message::Hello, message::Enrol>;
        }
        return is_one_of<T, message::TrustChain, message::Welcome, message::Enrolled, message::Refused,
                         message::Backoff>;
      },
      message);
}

/// What only ever goes from node to coordinator, or the other way, once a session is open.
bool is_for(const Message& message, Role receiver) {
  return std::visit(
      [&]<typename T>(const T&) {
        if (receiver == Role::coordinator) {
          return is_one_of<T, message::Ready, message::Offer, message::Evaluation, message::Declined,
                           message::Telemetry, message::Activation>;
        }
        return is_one_of<T, message::Assignment, message::Task, message::TaskCancelled, message::Receipt,
                         message::Verdicts, message::Refused, message::Backoff, message::TrustChain>;
      },
      message);
}

}  // namespace

Session::Session(Role role, const Limits& limits, CreditPool& credit, Now now)
    : role_(role),
      limits_(limits),
      credit_(credit),
      heartbeat_interval_(limits.heartbeat_interval),
      opened_at_(now.monotonic),
      last_received_(now.monotonic),
      last_sent_(now.monotonic) {}

Session::~Session() { release_window(); }

SessionEffects Session::take() { return std::exchange(effects_, {}); }

void Session::transmit(const Message& message, Now now) {
  last_sent_ = now.monotonic;
  emit(SendFrame{encode(message)});
}

void Session::end(Reason reason, std::string detail, bool tell_peer) {
  if (phase_ == Phase::closed) return;
  if (tell_peer && role_ == Role::coordinator) emit(SendFrame{encode(message::Refused{reason, detail})});
  phase_ = Phase::closed;
  outgoing_.reset();
  if (incoming_) fail_fetch({Errc::disconnected, "the session ended: " + std::string(name(reason))});
  emit(CloseSession{reason, std::move(detail)});
}

SessionEffects Session::send(Message message, Now now) {
  if (phase_ == Phase::closed) return take();
  transmit(message, now);
  if (std::holds_alternative<message::Welcome>(message)) phase_ = Phase::open;
  if (const auto* refused = std::get_if<message::Refused>(&message))
    end(refused->reason, refused->detail, false);
  if (const auto* backoff = std::get_if<message::Backoff>(&message))
    end(backoff->reason, "told to come later", false);
  if (std::holds_alternative<message::Enrolled>(message)) end(Reason::none, "enrolled", false);
  return take();
}

SessionEffects Session::close(Reason reason, std::string detail) {
  end(reason, std::move(detail), true);
  return take();
}

SessionEffects Session::on_frame(ByteSpan frame, Now now) {
  if (phase_ == Phase::closed) return take();
  if (frame.size() > frame_bytes_max()) {
    end(Reason::frame_too_large, "a frame of " + std::to_string(frame.size()) + " bytes", true);
    return take();
  }
  auto message = decode_message(frame);
  if (!message) {
    // What a newer peer adds is passed over once the session is open; before, nothing unknown is welcome.
    if (message.error().code == Errc::unsupported && phase_ == Phase::open) return take();
    end(Reason::malformed_frame, message.error().detail, true);
    return take();
  }
  last_received_ = now.monotonic;
  if (phase_ == Phase::greeting) {
    accept_greeting(std::move(*message), now);
  } else {
    accept_open(std::move(*message), now);
  }
  return take();
}

void Session::accept_greeting(Message message, Now) {
  if (!is_greeting(message, role_)) {
    end(Reason::unexpected_message, "'" + std::string(name(message)) + "' before hello and welcome", true);
    return;
  }
  if (role_ == Role::coordinator) {
    // A stranger gets one answer to each question, and not as many as it can ask.
    bool& said = std::holds_alternative<message::TrustRequest>(message) ? trust_requested_ : greeted_;
    if (std::exchange(said, true)) {
      end(Reason::unexpected_message, "'" + std::string(name(message)) + "' once more before welcome", true);
      return;
    }
  }
  if (const auto* welcome = std::get_if<message::Welcome>(&message)) {
    phase_ = Phase::open;
    if (welcome->heartbeat_seconds > 0) {
      heartbeat_interval_ = std::min<std::chrono::milliseconds>(
          heartbeat_interval_, std::chrono::seconds(welcome->heartbeat_seconds));
    }
  }
  emit(Deliver{std::move(message)});
}

void Session::accept_open(Message message, Now now) {
  if (const auto* fetch = std::get_if<message::Fetch>(&message)) return on_fetch(*fetch);
  if (auto* list = std::get_if<message::ContentList>(&message)) return on_list(std::move(*list));
  if (auto* chunk = std::get_if<message::Chunk>(&message)) return on_chunk(std::move(*chunk), now);
  if (const auto* credit = std::get_if<message::Credit>(&message)) return on_credit(*credit);
  if (const auto* missing = std::get_if<message::NoContent>(&message)) return on_missing(*missing);
  if (std::holds_alternative<message::Heartbeat>(message)) return;
  if (!is_for(message, role_)) {
    end(Reason::unexpected_message, "'" + std::string(name(message)) + "' in an open session", true);
    return;
  }
  if (role_ == Role::coordinator) {
    // It says what the node holds, once: what comes later changes that step by step.
    const bool is_ready = std::holds_alternative<message::Ready>(message);
    if (is_ready == ready_said_) {
      end(Reason::unexpected_message,
          is_ready ? "'ready' once more" : "'" + std::string(name(message)) + "' before ready", true);
      return;
    }
    ready_said_ = true;
  }
  emit(Deliver{std::move(message)});
}

std::uint32_t Session::frame_bytes_max() const {
  const bool stranger = phase_ == Phase::greeting && role_ == Role::coordinator;
  return stranger ? limits_.hello_frame_bytes_max : limits_.frame_bytes_max;
}

// ---- Time ------------------------------------------------------------------------------------------

MonotonicTime Session::next_deadline() const {
  if (phase_ == Phase::closed) return MonotonicTime::max();
  if (phase_ == Phase::greeting) return opened_at_ + limits_.hello_timeout;
  MonotonicTime next = std::min<MonotonicTime>(
      last_sent_ + heartbeat_interval_, last_received_ + heartbeat_interval_ * limits_.heartbeats_missed_max);
  if (incoming_ && incoming_->step != Incoming::Step::finished) {
    next = std::min<MonotonicTime>(next, incoming_->window_start + limits_.progress_window);
    // Credit may come free at any moment, by another session's end.
    if (incoming_->step == Incoming::Step::waiting_for_credit) {
      next = std::min<MonotonicTime>(next, incoming_->credit_asked + credit_interval);
    }
  }
  return next;
}

SessionEffects Session::on_time(Now now) {
  if (phase_ == Phase::closed) return take();
  if (phase_ == Phase::greeting) {
    if (now.monotonic >= opened_at_ + limits_.hello_timeout) {
      end(Reason::handshake_timeout, "no hello and welcome in time", true);
    }
    return take();
  }
  if (now.monotonic >= last_received_ + heartbeat_interval_ * limits_.heartbeats_missed_max) {
    end(Reason::idle,
        "nothing was heard for " + std::to_string(limits_.heartbeats_missed_max) + " heartbeats", true);
    return take();
  }
  if (now.monotonic >= last_sent_ + heartbeat_interval_) transmit(message::Heartbeat{}, now);
  if (incoming_ && incoming_->step == Incoming::Step::waiting_for_credit) begin_receiving(now);
  check_progress(now);
  return take();
}

}  // namespace rivulet::core
