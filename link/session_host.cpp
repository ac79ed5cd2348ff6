#include "link/session_host.h"

#include <algorithm>
#include <iterator>

namespace rivulet {
namespace {

/// Of a kept part, between two looks at other connections; a few milliseconds.
constexpr std::uint64_t slice_bytes = 1 << 20;
constexpr std::uint64_t read_bytes = 256 * 1024;

}  // namespace

void SessionHost::send(Message message, Now now) { run(session_.send(std::move(message), now), now); }
void SessionHost::on_frame(ByteSpan frame, Now now) { run(session_.on_frame(frame, now), now); }
void SessionHost::on_time(Now now) {
  if (opening_ && !running_) {
    hash_slice(now);
    run({}, now);
  }
  run(session_.on_time(now), now);
}
MonotonicTime SessionHost::next_deadline() const {
  return opening_ ? MonotonicTime{} : session_.next_deadline();
}
void SessionHost::on_writable(Now now) { run(session_.on_writable(now), now); }
void SessionHost::close(Reason reason, std::string detail, Now now) {
  run(session_.close(reason, std::move(detail)), now);
}
void SessionHost::fetch(const ContentId& content, std::uint64_t bytes_max, Now now) {
  run(session_.fetch(content, bytes_max, now), now);
}

void SessionHost::stop_fetch(const ContentId& content, Now now) { run(session_.stop_fetch(content), now); }

void SessionHost::enqueue(core::SessionEffects effects) {
  queue_.insert(queue_.end(), std::make_move_iterator(effects.begin()),
                std::make_move_iterator(effects.end()));
}

void SessionHost::run(core::SessionEffects effects, Now now) {
  enqueue(std::move(effects));
  // An owner that calls back while an effect is carried out must not overtake those that wait.
  if (running_) return;
  running_ = true;
  for (std::size_t i = 0; i < queue_.size(); ++i) {
    core::SessionEffect effect = std::move(queue_[i]);
    std::visit([&](auto& value) { carry_out(value, now); }, effect);
  }
  queue_.clear();
  running_ = false;
}

void SessionHost::carry_out(core::SendFrame& effect, Now) { owner_.write_frame(std::move(effect.frame)); }

void SessionHost::carry_out(core::Deliver& effect, Now) { owner_.deliver(std::move(effect.message)); }

void SessionHost::carry_out(core::OpenContent& effect, Now) {
  const auto list = owner_.chunk_list(effect.content);
  enqueue(list ? session_.content_opened(effect.content, *list) : session_.content_missing(effect.content));
}

void SessionHost::carry_out(core::ReadContent& effect, Now) {
  auto data = blobs_.read(effect.content, effect.offset, effect.size);
  if (!data || data->size() != effect.size) {
    enqueue(session_.content_missing(effect.content));
    return;
  }
  owner_.count_sent(data->size());
  enqueue(session_.content_read(effect.content, effect.offset, std::move(*data)));
}

void SessionHost::carry_out(core::OpenPart& effect, Now now) {
  auto length = blobs_.part_length(effect.content);
  if (!length) return enqueue(session_.part_failed(length.error()));
  // More than the content has can only be another's leftover.
  if (*length > effect.list.length) {
    if (const auto status = blobs_.truncate_part(effect.content, 0); !status) {
      return enqueue(session_.part_failed(status.error()));
    }
    *length = 0;
  }
  // As far as this process hashed them before, the bytes are known.
  const std::uint64_t verified = std::min(parts_.find(effect.content), *length);
  parts_.set(effect.content, verified);
  opening_ = Opening{effect.content, verified - verified % chunk_bytes, *length};
  session_.part_verified(opening_->at);
  hash_slice(now);
}

void SessionHost::hash_slice(Now now) {
  const ContentId content = opening_->content;
  // The fetch may have ended, and another begun.
  if (!session_.opens_part(content)) return opening_.reset();
  const std::uint64_t end = std::min(opening_->at + slice_bytes, opening_->length);
  bool damaged = false;
  while (opening_->at < end && !damaged) {
    auto bytes = blobs_.read_part(content, opening_->at, std::min(read_bytes, end - opening_->at));
    if (bytes && bytes->empty()) bytes = fail(Errc::not_found, "the part became shorter while it was read");
    if (!bytes) {
      opening_.reset();
      return enqueue(session_.part_failed(bytes.error()));
    }
    core::SessionEffects answer = session_.part_read(*bytes);
    damaged = !answer.empty();
    enqueue(std::move(answer));
    if (damaged) break;
    opening_->at += bytes->size();
    parts_.set(content, opening_->at);
  }
  if (!damaged && opening_->at < opening_->length) return;
  opening_.reset();
  enqueue(session_.part_ready(now));
}

void SessionHost::carry_out(core::TruncatePart& effect, Now) {
  parts_.set(effect.content, effect.length);
  const auto status = blobs_.truncate_part(effect.content, effect.length);
  if (!status && !session_.closed()) enqueue(session_.part_failed(status.error()));
}

void SessionHost::carry_out(core::AppendPart& effect, Now now) {
  const auto status = blobs_.append_part(effect.content, effect.offset, effect.data);
  if (!status) return enqueue(session_.part_failed(status.error()));
  parts_.set(effect.content, effect.offset + effect.data.size());
  owner_.count_received(effect.data.size());
  enqueue(session_.part_written(static_cast<std::uint32_t>(effect.data.size()), now));
}

void SessionHost::carry_out(core::FinishPart& effect, Now) { owner_.finish_fetch(effect.content); }

void SessionHost::carry_out(core::FetchFailed& effect, Now) {
  owner_.fetch_failed(effect.content, std::move(effect.error));
}

void SessionHost::carry_out(core::CloseSession& effect, Now) { owner_.closed(effect.reason, effect.detail); }

}  // namespace rivulet
