#include <algorithm>

#include "protocol/core/session.h"

/// A session's side of a transfer towards us: list, part, credit, chunks, the end.
namespace rivulet::core {

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

SessionEffects Session::stop_fetch(const ContentId& content) {
  if (incoming_ && incoming_->content == content) {
    release_window();
    incoming_.reset();
  }
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

bool Session::opens_part(const ContentId& content) const {
  return incoming_ && incoming_->content == content && incoming_->step == Incoming::Step::opening;
}

void Session::part_verified(std::uint64_t bytes) {
  if (incoming_ && incoming_->step == Incoming::Step::opening) incoming_->receiver->skip_verified(bytes);
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
  const std::uint64_t most = std::min<std::uint64_t>(in.in_flight, limits_.chunk_data_taken_max);
  if (chunk.offset != offset || chunk.data.empty() || chunk.data.size() > most) {
    end(Reason::corrupt_content,
        "a chunk at " + std::to_string(chunk.offset) + " of " + std::to_string(chunk.data.size()) +
            " bytes, expected at " + std::to_string(offset) + " and at most " + std::to_string(most),
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

void Session::on_missing(const message::NoContent& missing) {
  if (!incoming_ || incoming_->content != missing.content) return;
  fail_fetch({Errc::not_found, "the peer does not have the content"});
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

}  // namespace rivulet::core
