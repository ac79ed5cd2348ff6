#include "protocol/core/session.h"

#include <algorithm>

#include "protocol/assert.h"

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
  if (const auto* credit = std::get_if<message::Credit>(&message)) {
    if (outgoing_ && outgoing_->content == credit->content) {
      outgoing_->credit = std::min<std::uint64_t>(outgoing_->credit + credit->bytes, limits_.transfer_memory);
      pump();
    }
    return;
  }
  if (const auto* missing = std::get_if<message::NoContent>(&message)) {
    if (incoming_ && incoming_->content == missing->content) {
      fail_fetch({Errc::not_found, "the peer does not have the content"});
    }
    return;
  }
  if (std::holds_alternative<message::Heartbeat>(message)) return;
  if (!is_for(message, role_)) {
    end(Reason::unexpected_message, "'" + std::string(name(message)) + "' in an open session", true);
    return;
  }
  emit(Deliver{std::move(message)});
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

void Session::check_progress(Now now) {
  if (!incoming_ || incoming_->step == Incoming::Step::finished) return;
  // While we ourselves withhold credit or read our own part, the peer is not to blame.
  if (incoming_->step == Incoming::Step::waiting_for_credit || incoming_->step == Incoming::Step::opening) {
    incoming_->window_start = now.monotonic;
    return;
  }
  if (now.monotonic < incoming_->window_start + limits_.progress_window) return;
  if (incoming_->window_received < limits_.progress_bytes_min) {
    end(Reason::too_slow,
        "a transfer moved " + std::to_string(incoming_->window_received) + " bytes in its window", true);
    return;
  }
  incoming_->window_start = now.monotonic;
  incoming_->window_received = 0;
}

// ---- Receiving content -----------------------------------------------------------------------------

SessionEffects Session::fetch(const ContentId& content, std::uint64_t bytes_max, Now now) {
  if (phase_ != Phase::open) {
    emit(FetchFailed{content, {Errc::disconnected, "the session is not open"}});
    return take();
  }
  release_window();
  incoming_.emplace(Incoming{.content = content,
                             .bytes_max = std::min(bytes_max, limits_.content_bytes_max),
                             .receiver = std::nullopt});
  incoming_->window_start = now.monotonic;
  transmit(message::Fetch{content, 0, 0, true}, now);
  return take();
}

void Session::on_list(message::ContentList message) {
  if (!incoming_ || incoming_->content != message.content || incoming_->step != Incoming::Step::listing)
    return;
  if (message.list.length > incoming_->bytes_max) {
    fail_fetch({Errc::too_large, "the content has " + std::to_string(message.list.length) +
                                     " bytes; at most " + std::to_string(incoming_->bytes_max) +
                                     " were announced"});
    return;
  }
  if (const auto status = check(message.list, message.content); !status) {
    end(Reason::corrupt_content, status.error().detail, true);
    return;
  }
  incoming_->step = Incoming::Step::opening;
  incoming_->receiver.emplace(message.list);
  emit(OpenPart{message.content, std::move(message.list)});
}

SessionEffects Session::part_read(ByteSpan bytes) {
  if (!incoming_ || incoming_->step != Incoming::Step::opening) return take();
  ContentReceiver& receiver = *incoming_->receiver;
  if (!receiver.take(bytes)) emit(TruncatePart{incoming_->content, receiver.received()});
  return take();
}

SessionEffects Session::part_ready(Now now) {
  if (incoming_ && incoming_->step == Incoming::Step::opening) {
    incoming_->step = Incoming::Step::waiting_for_credit;
    begin_receiving(now);
  }
  return take();
}

void Session::begin_receiving(Now now) {
  Incoming& in = *incoming_;
  if (in.receiver->complete()) {
    in.step = Incoming::Step::finished;
    emit(FinishPart{in.content});
    return;
  }
  const std::uint64_t rest = in.receiver->list().length - in.receiver->received();
  const std::uint64_t wanted = std::min<std::uint64_t>(limits_.transfer_window, rest);
  in.window = credit_.acquire(wanted, std::min<std::uint64_t>(wanted, limits_.chunk_data_bytes_max));
  in.credit_asked = now.monotonic;
  if (in.window == 0) return;
  in.step = Incoming::Step::receiving;
  in.in_flight = in.window;
  in.window_start = now.monotonic;
  in.window_received = 0;
  transmit(message::Fetch{in.content, in.receiver->received(), static_cast<std::uint32_t>(in.window), false},
           now);
}

void Session::on_chunk(message::Chunk chunk, Now) {
  // A chunk of a fetch that was replaced in the meantime is no fault.
  if (!incoming_ || incoming_->content != chunk.content || incoming_->step != Incoming::Step::receiving)
    return;
  Incoming& in = *incoming_;
  const std::uint64_t offset = in.receiver->received();
  if (chunk.offset != offset || chunk.data.empty() || chunk.data.size() > in.in_flight) {
    end(Reason::corrupt_content,
        "a chunk at " + std::to_string(chunk.offset) + " of " + std::to_string(chunk.data.size()) +
            " bytes, expected at " + std::to_string(offset) + " within a credit of " +
            std::to_string(in.in_flight),
        true);
    return;
  }
  in.in_flight -= chunk.data.size();
  in.window_received += chunk.data.size();
  if (const auto status = in.receiver->take(chunk.data); !status) {
    if (in.receiver->received() < offset) emit(TruncatePart{in.content, in.receiver->received()});
    end(Reason::corrupt_content, status.error().detail, true);
    return;
  }
  in.unwritten += chunk.data.size();
  emit(AppendPart{in.content, offset, std::move(chunk.data)});
}

SessionEffects Session::part_written(std::uint32_t bytes, Now now) {
  if (!incoming_ || incoming_->step != Incoming::Step::receiving) return take();
  Incoming& in = *incoming_;
  in.unwritten -= std::min<std::uint64_t>(bytes, in.unwritten);
  if (in.receiver->complete()) {
    // Not before the last byte is kept, which a full disk may refuse.
    if (in.unwritten > 0) return take();
    in.step = Incoming::Step::finished;
    release_window();
    emit(FinishPart{in.content});
    return take();
  }
  in.written += bytes;
  const std::uint64_t rest = in.receiver->list().length - in.receiver->received();
  const std::uint64_t grant = std::min(in.written, rest > in.in_flight ? rest - in.in_flight : 0);
  // Half a window at a time: fewer frames, and the peer never stands still.
  if (grant > 0 && in.written * 2 >= in.window) {
    in.in_flight += grant;
    in.written -= grant;
    transmit(message::Credit{in.content, static_cast<std::uint32_t>(grant)}, now);
  }
  return take();
}

SessionEffects Session::part_failed(Error error) {
  if (incoming_) fail_fetch(std::move(error));
  return take();
}

void Session::fail_fetch(Error error) {
  const ContentId content = incoming_->content;
  const bool finished = incoming_->step == Incoming::Step::finished;
  release_window();
  incoming_.reset();
  if (!finished) emit(FetchFailed{content, std::move(error)});
}

void Session::release_window() {
  if (!incoming_) return;
  credit_.release(incoming_->window);
  incoming_->window = 0;
}

// ---- Sending content -------------------------------------------------------------------------------

void Session::on_fetch(const message::Fetch& fetch) {
  outgoing_.emplace(Outgoing{.content = fetch.content,
                             .list = std::nullopt,
                             .offset = fetch.offset,
                             .credit = std::min<std::uint64_t>(fetch.credit, limits_.transfer_memory),
                             .list_wanted = fetch.want_list});
  emit(OpenContent{fetch.content});
}

SessionEffects Session::content_opened(const ContentId& content, const ChunkList& list) {
  if (!outgoing_ || outgoing_->content != content || phase_ != Phase::open) return take();
  outgoing_->list = list;
  if (outgoing_->list_wanted) emit(SendFrame{encode(message::ContentList{content, list})});
  outgoing_->list_wanted = false;
  pump();
  return take();
}

SessionEffects Session::content_missing(const ContentId& content) {
  if (outgoing_ && outgoing_->content == content) {
    outgoing_.reset();
    if (phase_ == Phase::open) emit(SendFrame{encode(message::NoContent{content})});
  }
  return take();
}

void Session::pump() {
  if (!outgoing_ || !outgoing_->list || outgoing_->reading || !writable_) return;
  const Outgoing& out = *outgoing_;
  if (out.offset >= out.list->length || out.credit == 0) return;
  const std::uint64_t chunk_end = (out.offset / chunk_bytes + 1) * chunk_bytes;
  const std::uint64_t size = std::min({std::uint64_t{limits_.chunk_data_bytes_max}, out.credit,
                                       out.list->length - out.offset, chunk_end - out.offset});
  outgoing_->reading = true;
  emit(ReadContent{out.content, out.offset, static_cast<std::uint32_t>(size)});
}

SessionEffects Session::content_read(const ContentId& content, std::uint64_t offset, Bytes data) {
  if (!outgoing_ || phase_ != Phase::open) return take();
  outgoing_->reading = false;
  // An answer to a read of before the peer fetched anew is of no use.
  if (outgoing_->content == content && outgoing_->offset == offset && data.size() <= outgoing_->credit) {
    outgoing_->offset += data.size();
    outgoing_->credit -= data.size();
    writable_ = false;
    emit(SendFrame{encode(message::Chunk{content, offset, std::move(data)})});
  }
  pump();
  return take();
}

SessionEffects Session::on_writable(Now) {
  writable_ = true;
  pump();
  return take();
}

std::uint32_t Session::frame_bytes_max() const {
  const bool stranger = phase_ == Phase::greeting && role_ == Role::coordinator;
  return stranger ? limits_.hello_frame_bytes_max : limits_.frame_bytes_max;
}

}  // namespace rivulet::core
